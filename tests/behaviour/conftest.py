"""What every backend promises, tried on each of those in tests/support/backends.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from backends import (
    META_FACTORIES,
    META_SERVERS,
    SERVER_MARKS,
    NewMeta,
    NewMetaFactory,
    new_namespace,
)

from retryspool.meta import MetaBackend, MetaFactory
from retryspool.plugins import meta_factory_at


@pytest.fixture(
    params=[
        *META_FACTORIES,
        *(pytest.param(name, marks=getattr(pytest.mark, SERVER_MARKS[url])) for name, url in META_SERVERS.items()),
    ]
)
def new_meta_factory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewMetaFactory:
    """Make a factory of an empty store, each time another."""
    if request.param in META_SERVERS:
        at_server = meta_factory_at(request.getfixturevalue(META_SERVERS[request.param]))
        return lambda: at_server.in_namespace(new_namespace())
    return lambda: META_FACTORIES[request.param](tmp_path_factory.mktemp("meta"))


@pytest.fixture
def new_meta(new_meta_factory: NewMetaFactory) -> Iterator[NewMeta]:
    """Open an empty store, each time another."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(new_meta_factory().create())


@pytest.fixture
def meta_factory(new_meta_factory: NewMetaFactory) -> MetaFactory:
    """The factory whose store `meta` has open."""
    return new_meta_factory()


@pytest.fixture
def meta(meta_factory: MetaFactory) -> Iterator[MetaBackend]:
    """An open, empty backend."""
    with meta_factory.create() as backend:
        yield backend
