"""The suites for what the command line names: by --retryspool-meta=URL, --retryspool-data, --retryspool-middleware."""

from __future__ import annotations

from typing import ClassVar

import pytest

from retryspool.conformance.data import DataBackendSuite
from retryspool.conformance.meta import MetaBackendSuite
from retryspool.conformance.middleware import MiddlewareSuite
from retryspool.conformance.rerouting import reroute
from retryspool.conformance.suite import Through
from retryspool.data import DataFactory
from retryspool.meta import MetaFactory
from retryspool.middleware import Middleware
from retryspool.plugins import data_factory_at, meta_factory_at, middleware_at

__all__ = ["TestData", "TestMeta", "TestMiddleware"]


class _Given:
    given: ClassVar[str]
    """The option that gives the URL."""
    given_url: str

    @pytest.fixture(autouse=True)
    def _given_url(self, request: pytest.FixtureRequest) -> None:
        self.given_url = getattr(request.config.option, self.given)

    def url(self) -> str:
        return self.given_url


class TestMeta(_Given, MetaBackendSuite):
    """The metadata backend of --retryspool-meta."""

    given = "retryspool_meta"

    def factory(self, namespace: str) -> MetaFactory:
        return _meta(self.given_url, namespace)

    def sever_network(self, namespace: str, through: Through) -> MetaFactory:
        return _meta(reroute(self.given_url, through), namespace)


class TestData(_Given, DataBackendSuite):
    """The data backend of --retryspool-data."""

    given = "retryspool_data"

    def factory(self, namespace: str) -> DataFactory:
        return _data(self.given_url, namespace)

    def sever_network(self, namespace: str, through: Through) -> DataFactory:
        return _data(reroute(self.given_url, through), namespace)


class TestMiddleware(_Given, MiddlewareSuite):
    """The middleware of --retryspool-middleware."""

    given = "retryspool_middleware"

    def middleware(self) -> Middleware:
        return middleware_at(self.given_url)

    def url(self) -> str:
        name, mark, query = self.given_url.partition("?")
        return f"{name.removesuffix(':')}:{mark}{query}"


def _meta(url: str, namespace: str) -> MetaFactory:
    return meta_factory_at(url).in_namespace(namespace)


def _data(url: str, namespace: str) -> DataFactory:
    return data_factory_at(url).in_namespace(namespace)
