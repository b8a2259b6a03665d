"""The tests of data backends, a file for each part of the contract."""

from retryspool.conformance.data.power import PowerCutTests

__all__ = ["DataBackendSuite"]


class DataBackendSuite(
    PowerCutTests,
):
    """Everything that a data backend promises.

    .. code-block:: python

        class TestMine(DataBackendSuite):
            def factory(self, namespace):
                return MyDataFactory(URL).in_namespace(namespace)
    """
