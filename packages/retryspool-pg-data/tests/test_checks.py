"""What `check()` finds, and what `versions()` names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import psycopg
import pytest
from pg_tables import Tables
from psycopg.conninfo import make_conninfo

from retryspool.model import Severity
from retryspool_cli.servers import PostgresServer
from retryspool_pg_data import PgDataFactory
from retryspool_pg_data.backend import PgDataBackend


def test_a_server_that_may_lose_everything_is_found_out(new_postgres: Callable[..., PostgresServer]) -> None:
    server = new_postgres(settings={"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"})

    with PgDataFactory.from_url(server.url).create() as backend:
        found = {finding.subject: finding.severity for finding in backend.check()}

    assert {
        "fsync=off": Severity.ERROR,
        "full_page_writes=off": Severity.ERROR,
        "synchronous_commit=off": Severity.WARNING,
    } == found


def test_it_is_the_setting_of_our_own_user_that_counts(factory: PgDataFactory) -> None:
    hasty = replace(factory, conninfo=make_conninfo(factory.conninfo, options="-c synchronous_commit=off"))

    with factory.create() as careful, hasty.create() as backend:
        assert ["synchronous_commit=off"] == [finding.subject for finding in backend.check()]
        assert [] == list(careful.check())


@pytest.mark.parametrize("name", ["data", "chunks"])
def test_a_table_that_a_crash_empties_is_found_out(
    factory: PgDataFactory, backend: PgDataBackend, tables: Tables, name: str
) -> None:
    tables.ask(f"ALTER TABLE {{{name}}} SET UNLOGGED")

    (finding,) = backend.check()

    assert f'"{factory.table}{"_chunks" if name == "chunks" else ""}"' == finding.subject
    assert Severity.ERROR is finding.severity
    assert "SET LOGGED" in finding.text


def test_sound_payloads_of_all_sizes_are_no_findings(backend: PgDataBackend) -> None:
    for size in (0, 1, 64 * 1024, 64 * 1024 + 1, 300_000):
        backend.store_data(f"m{size}", b"x" * size)

    assert [] == list(backend.check())


def test_versions_name_the_package_the_driver_and_the_server(factory: PgDataFactory, backend: PgDataBackend) -> None:
    with psycopg.connect(factory.conninfo) as connection:
        ((text,),) = connection.execute("SHOW server_version").fetchall()

    assert {
        "backend": f"retryspool-pg-data {version('retryspool-pg-data')}",
        "driver": f"psycopg {version('psycopg')}",
        "server": f"PostgreSQL {text.split()[0]}",
    } == dict(backend.versions())
