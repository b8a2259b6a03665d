from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from redis import Redis

from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.backend import RedisMetaBackend


@pytest.fixture
def factory(redis_url: str) -> RedisMetaFactory:
    """The factory of an empty store on the server that all tests share."""
    return RedisMetaFactory(redis_url, prefix=f"t{uuid4().hex}")


@pytest.fixture
def base(factory: RedisMetaFactory) -> str:
    """What the store's keys begin with."""
    return f"{{{factory.prefix}}}"


@pytest.fixture
def backend(factory: RedisMetaFactory) -> Iterator[RedisMetaBackend]:
    with factory.create() as backend:
        yield backend


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    """A client of the driver's to look behind the backend."""
    with Redis.from_url(redis_url) as client:
        yield client
