"""The tests of data backends, a file for each part of the contract."""

from retryspool.conformance.data_suite import DataSuite

__all__ = ["DataBackendSuite"]


class DataBackendSuite(
    DataSuite,
):
    """Everything that a data backend promises.

    .. code-block:: python

        class TestMine(DataBackendSuite):
            def factory(self, namespace):
                return MyDataFactory(URL).in_namespace(namespace)
    """
