from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from pg_tables import Tables
from psycopg.conninfo import conninfo_to_dict

from retryspool.conformance.proxy import Proxy
from retryspool_pg_data import PgDataFactory
from retryspool_pg_data.backend import PgDataBackend


@pytest.fixture
def server(pg_url: str) -> PgDataFactory:
    """The run's server, at its default table: nothing is to be opened there."""
    return PgDataFactory.from_url(pg_url)


@pytest.fixture
def factory(server: PgDataFactory) -> Iterator[PgDataFactory]:
    """An empty store of small chunks."""
    factory = PgDataFactory(server.conninfo, table=f"t{uuid4().hex[:16]}", chunk_bytes=64 * 1024)
    yield factory
    factory.destroy()


@pytest.fixture
def backend(factory: PgDataFactory) -> Iterator[PgDataBackend]:
    with factory.create() as backend:
        yield backend


@pytest.fixture
def tables(factory: PgDataFactory) -> Iterator[Tables]:
    """What lies in the store."""
    tables = Tables(factory)
    with tables.connection:
        yield tables


@pytest.fixture
def proxy(factory: PgDataFactory) -> Iterator[Proxy]:
    """Stands before the server."""
    known = conninfo_to_dict(factory.conninfo)
    with Proxy(str(known["host"]), int(known["port"] or 5432)) as proxy:
        yield proxy
