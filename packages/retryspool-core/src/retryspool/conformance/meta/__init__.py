"""The tests of metadata backends, a file for each part of the contract."""

from retryspool.conformance.meta.moves import MoveTests
from retryspool.conformance.meta.power import PowerCutTests

__all__ = ["MetaBackendSuite"]


class MetaBackendSuite(
    MoveTests,
    PowerCutTests,
):
    """Everything that a metadata backend promises.

    .. code-block:: python

        class TestMine(MetaBackendSuite):
            def factory(self, namespace):
                return MyMetaFactory(URL).in_namespace(namespace)
    """
