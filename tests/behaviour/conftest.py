"""What every backend promises, tried on each of those in tests/support/backends.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from backends import DATA_FACTORIES, META_FACTORIES, NewData, NewDataFactory, NewMeta, NewMetaFactory

from retryspool.data import DataBackend, DataFactory
from retryspool.meta import MetaBackend, MetaFactory


@pytest.fixture(params=META_FACTORIES)
def new_meta_factory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewMetaFactory:
    """Make a factory of an empty store, each time another."""
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


@pytest.fixture(params=DATA_FACTORIES)
def new_data_factory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewDataFactory:
    """Make a factory of an empty store, each time another."""
    return lambda: DATA_FACTORIES[request.param](tmp_path_factory.mktemp("data"))


@pytest.fixture
def new_data(new_data_factory: NewDataFactory) -> Iterator[NewData]:
    """Open an empty store, each time another."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(new_data_factory().create())


@pytest.fixture
def data_factory(new_data_factory: NewDataFactory) -> DataFactory:
    """The factory whose store `data` has open."""
    return new_data_factory()


@pytest.fixture
def data(data_factory: DataFactory) -> Iterator[DataBackend]:
    """An open, empty backend."""
    with data_factory.create() as backend:
        yield backend
