"""The metadata backend on Redis against the contract."""

from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from restarted import is_restarted

from retryspool.conformance import MetaBackendSuite, Through
from retryspool.conformance.rerouting import reroute
from retryspool.meta import MetaFactory
from retryspool_cli.servers import RedisServer
from retryspool_redis_meta import RedisMetaFactory


class TestRedisMeta(MetaBackendSuite):
    where: str
    server: RedisServer | None
    client: Redis

    @pytest.fixture(autouse=True)
    def _on_a_server(
        self, request: pytest.FixtureRequest, redis_url: str, new_redis: Callable[[], RedisServer]
    ) -> Iterator[None]:
        """Use the server that all tests share, or one of the test's own if it's to be restarted."""
        self.server = new_redis() if is_restarted(request) else None
        self.where = self.server.url if self.server else redis_url
        with Redis.from_url(self.where) as self.client:
            yield

    def factory(self, namespace: str) -> MetaFactory:
        return RedisMetaFactory(self.where).in_namespace(namespace)

    def url(self) -> str:
        return f"{self.where}?prefix=by-url&timeout=3"

    def sever_network(self, namespace: str, through: Through) -> MetaFactory:
        return RedisMetaFactory(reroute(self.where, through)).in_namespace(namespace)

    def raw_get(self, namespace: str, message_id: str) -> bytes:
        head, body = self.client.hmget(_key(namespace, message_id), "head", "body")
        return b"%b\n%b" % (head, body)

    def raw_put(self, namespace: str, message_id: str, stored: bytes) -> None:
        head, _, body = stored.partition(b"\n")
        self.client.hset(_key(namespace, message_id), mapping={"head": head, "body": body})

    def restart_server(self) -> None:
        assert self.server is not None
        self.server.restart(kill=True)

    def lend_client(self, namespace: str) -> tuple[MetaFactory, Callable[[], bool]]:
        return RedisMetaFactory(client=self.client).in_namespace(namespace), lambda: bool(self.client.ping())


def _key(namespace: str, message_id: str) -> str:
    return f"{{retryspool:{namespace}}}:m:{message_id}"
