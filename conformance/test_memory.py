"""The in-memory backends against the contract."""

from retryspool.conformance import DataBackendSuite, MetaBackendSuite
from retryspool.data import DataFactory
from retryspool.memory import MemoryDataFactory, MemoryMetaFactory
from retryspool.meta import MetaFactory


class _Url:
    def url(self) -> str:
        return "memory:conformance"


class TestMemoryMeta(_Url, MetaBackendSuite):
    def factory(self, namespace: str) -> MetaFactory:
        return MemoryMetaFactory("conformance").in_namespace(namespace)


class TestMemoryData(_Url, DataBackendSuite):
    def factory(self, namespace: str) -> DataFactory:
        return MemoryDataFactory("conformance").in_namespace(namespace)
