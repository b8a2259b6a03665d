"""The interfaces' defaults against the contract, on backends that have nothing but what is abstract."""

from minimal_backends import MinimalDataFactory, MinimalMetaFactory

from retryspool.conformance import DataBackendSuite, MetaBackendSuite
from retryspool.data import DataFactory
from retryspool.meta import MetaFactory

META = MinimalMetaFactory()
DATA = MinimalDataFactory()


class TestMinimalMeta(MetaBackendSuite):
    def factory(self, namespace: str) -> MetaFactory:
        return META.in_namespace(namespace)


class TestMinimalData(DataBackendSuite):
    def factory(self, namespace: str) -> DataFactory:
        return DATA.in_namespace(namespace)
