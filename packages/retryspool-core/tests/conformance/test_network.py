"""The suite's tests of networks, on a small store behind a server that does it right."""

from collections.abc import Iterator

import pytest
from toy_backend import ToyDataFactory, ToyMetaFactory
from toy_server import ToyServer

from retryspool.conformance.data.network import NetworkTests as DataNetworkTests
from retryspool.conformance.data.restarts import RestartTests as DataRestartTests
from retryspool.conformance.meta.network import NetworkTests as MetaNetworkTests
from retryspool.conformance.meta.restarts import RestartTests as MetaRestartTests
from retryspool.conformance.suite import Through
from retryspool.data import DataFactory
from retryspool.meta import MetaFactory


class _Served:
    server: ToyServer

    @pytest.fixture(autouse=True)
    def _own_server(self) -> Iterator[None]:
        self.server = ToyServer().start()
        yield
        self.server.kill()

    def restart_server(self) -> None:
        self.server.kill()
        self.server.start()


class TestToyMeta(_Served, MetaNetworkTests, MetaRestartTests):
    def factory(self, namespace: str) -> MetaFactory:
        return ToyMetaFactory(self.server.address, namespace)

    def sever_network(self, namespace: str, through: Through) -> MetaFactory:
        return ToyMetaFactory(through(*self.server.address), namespace)


class TestToyData(_Served, DataNetworkTests, DataRestartTests):
    def factory(self, namespace: str) -> DataFactory:
        return ToyDataFactory(self.server.address, namespace)

    def sever_network(self, namespace: str, through: Through) -> DataFactory:
        return ToyDataFactory(through(*self.server.address), namespace)
