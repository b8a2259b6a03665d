"""The tables: made, taken over from the Go system, by many processes at once, and refused where they are others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pg_tables import Tables
from processes import processes
from psycopg import sql
from psycopg.conninfo import make_conninfo

from retryspool.data import DataBackend
from retryspool.errors import BackendError, CorruptDataError
from retryspool_pg_data import PgDataFactory
from retryspool_pg_data.schema import VERSION
from retryspool_pg_data.table import Table

GO = (Path(__file__).parent / "fixtures/go.sql").read_text()
LARGE = b"0123456789abcdef" * 262144


def make_go_table(factory: PgDataFactory) -> None:
    """Do what the Go system did."""
    table = Table.parse(factory.table)
    text: Any = GO
    statement = sql.SQL(text).format(
        data=table.beside(""), created=table.index("created"), updated=table.index("updated")
    )
    with psycopg.connect(factory.conninfo) as connection:
        connection.execute(statement)


def read(data: DataBackend, message_id: str) -> bytes:
    with data.get_data_reader(message_id) as reader:
        return reader.read()


@pytest.fixture
def user(server: PgDataFactory) -> Iterator[str]:
    """A user without any right."""
    name = f"u{uuid4().hex[:16]}"
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE USER {} PASSWORD 'x'").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP USER {}").format(sql.Identifier(name)))


# -- the Go system's ---------------------------------------------------------------------------------------------------


def test_a_table_of_the_go_system_opens_as_it_is(factory: PgDataFactory) -> None:
    make_go_table(factory)

    with factory.create() as backend:
        assert [b"Subject: hello", b"\x00\xff\x00\xff", b"", LARGE] == [
            read(backend, message_id) for message_id in ("msg-123", "MSG-123", "empty", "large")
        ]
        infos = {info.message_id: info for info in backend.iter_data()}
        assert {"msg-123": 14, "MSG-123": 4, "empty": 0, "large": len(LARGE), "truncated": 14} == {
            message_id: info.size for message_id, info in infos.items()
        }
        assert datetime(2024, 5, 2, 8, tzinfo=UTC) == infos["msg-123"].modified


def test_a_payload_of_the_go_system_that_is_cut_off_is_told(factory: PgDataFactory) -> None:
    make_go_table(factory)

    with factory.create() as backend:
        with pytest.raises(CorruptDataError, match="7 bytes, 14 are noted"):
            backend.get_data_reader("truncated")
        assert ["truncated"] == [finding.message_id for finding in backend.check()]
        assert {} == backend.fetch_many(["truncated"], max_bytes=100)


def test_payloads_of_the_go_system_are_replaced_and_deleted(factory: PgDataFactory) -> None:
    make_go_table(factory)

    with factory.create() as backend:
        backend.store_data("msg-123", LARGE)
        backend.store_data("large", b"small")
        backend.delete_many(["empty", "truncated", "MSG-123"])

    with factory.create() as again:
        assert {"large": b"small", "msg-123": LARGE} == {
            i.message_id: read(again, i.message_id) for i in again.iter_data()
        }


def test_what_the_go_system_writes_over_a_payload_in_chunks_is_read(factory: PgDataFactory) -> None:
    with factory.create() as backend:
        tables = Tables(factory)
        with tables.connection:
            backend.store_data("a", LARGE)
            backend.store_data("b", LARGE)
            for message_id, data in (("a", b"of Go's"), ("b", b"")):
                tables.ask(
                    "INSERT INTO {data} (message_id, data, size) VALUES (%s, %s, %s) ON CONFLICT (message_id) "
                    "DO UPDATE SET data = EXCLUDED.data, size = EXCLUDED.size, updated = NOW()",
                    message_id,
                    data,
                    len(data),
                )

            assert (b"of Go's", b"") == (read(backend, "a"), read(backend, "b"))
            assert {"a": b"of Go's", "b": b""} == backend.fetch_many(["a", "b"], max_bytes=9)
            assert [] == list(backend.check())
            backend.delete_many(["a", "b"])
            assert {"data": 0, "chunks": 0, "loose": 0, "readers": 0} == tables.counts()


# -- migrations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_of_go", [False, True], ids=["no table", "Go's table"])
def test_ten_may_open_it_at_once_in_five_processes(factory: PgDataFactory, *, is_of_go: bool) -> None:
    if is_of_go:
        make_go_table(factory)

    with processes(5) as team:
        for each in team:
            each.begin("pg_works:open_twice", factory.conninfo, factory.table)
        assert [["", ""]] * 5 == [each.line() for each in team]

    tables = Tables(factory)
    with tables.connection:
        assert [(VERSION,)] == tables.ask("SELECT version FROM {schema}")
    with factory.create() as backend:
        assert 5 * is_of_go == len(list(backend.iter_data()))


def test_a_migration_that_fails_leaves_nothing_behind(factory: PgDataFactory) -> None:
    blocker = Table.parse(factory.table).beside("_readers")
    with psycopg.connect(factory.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE TABLE {} (other INTEGER)").format(blocker))
        with pytest.raises(BackendError, match="already exists"):
            factory.create()
        connection.execute(sql.SQL("DROP TABLE {}").format(blocker))
        assert (
            []
            == connection.execute(
                "SELECT relname FROM pg_class WHERE position(%s in relname) > 0", (factory.table,)
            ).fetchall()
        )

    factory.create().close()


def test_tables_of_a_newer_version_are_refused_and_left_alone(factory: PgDataFactory) -> None:
    factory.create().close()
    tables = Tables(factory)
    with tables.connection:
        tables.ask("UPDATE {schema} SET version = version + 1")
        with pytest.raises(BackendError, match=f"version {VERSION + 1}, and this program knows {VERSION} at most"):
            factory.create()
        assert [(VERSION + 1,)] == tables.ask("SELECT version FROM {schema}")


def test_a_table_of_something_else_is_refused_and_left_as_it_was(factory: PgDataFactory) -> None:
    with psycopg.connect(factory.conninfo, autocommit=True) as connection:
        table = Table.parse(factory.table).beside("")
        connection.execute(
            sql.SQL("CREATE TABLE {} (message_id TEXT, size INTEGER, created TIMESTAMPTZ, updated TIMESTAMPTZ)").format(
                table
            )
        )
        with pytest.raises(BackendError, match="columns data, size are missing or of another type"):
            factory.create()
        columns = connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0", (factory.table,)
        )
        assert 4 == len(columns.fetchall())


def test_it_opens_where_transactions_are_serializable_by_default(factory: PgDataFactory) -> None:
    strict = replace(
        factory, conninfo=make_conninfo(factory.conninfo, options="-c default_transaction_isolation=serializable")
    )

    with strict.create() as backend:
        backend.store_data("a", LARGE)
        assert LARGE == read(backend, "a")


# -- rights and names --------------------------------------------------------------------------------------------------


def test_who_may_not_create_tables_may_use_those_that_are_there(factory: PgDataFactory, user: str) -> None:
    factory.create().close()
    limited = replace(factory, conninfo=make_conninfo(factory.conninfo, user=user, password="x"))
    with pytest.raises(BackendError, match="permission denied"):
        limited.create()
    with pytest.raises(BackendError, match="permission denied"):
        replace(limited, table=f"{factory.table}x").create()

    tables = Tables(factory)
    with tables.connection:
        for name in ("data", "chunks", "loose", "readers", "schema"):
            statement = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {{{name}}} TO {user}"
            tables.ask(statement)
    with limited.create() as backend:
        backend.store_data("a", LARGE)
        assert LARGE == read(backend, "a")
        backend.delete_data("a")
        assert [] == list(backend.check())


def test_a_user_without_the_rights_to_write_is_found_out(factory: PgDataFactory, user: str) -> None:
    with factory.create() as full:
        full.store_data("a", b"x")
    tables = Tables(factory)
    with tables.connection:
        for name in ("data", "schema"):
            tables.ask(f"GRANT SELECT ON {{{name}}} TO {user}")
        tables.ask(f"GRANT SELECT ON {{chunks}} TO {user}")

    with replace(factory, conninfo=make_conninfo(factory.conninfo, user=user, password="x")).create() as backend:
        assert b"x" == read(backend, "a")
        with pytest.raises(BackendError, match="permission denied"):
            backend.store_data("a", b"y")
        subjects = [finding.subject for finding in backend.check()]
        assert [f'"{factory.table}{suffix}"' for suffix in ("", "_chunks", "_loose", "_readers")] == subjects


@pytest.mark.parametrize(
    "name",
    ['a"; DROP TABLE x; --', "100%s %(x)s %", "{data} {", "two  spaces", "Upper", "ä'\\", "select", "$1", "a\nb"],
)
def test_a_name_is_quoted_whatever_it_is(server: PgDataFactory, name: str) -> None:
    factory = replace(server, table=f"{name}{uuid4().hex[:8]}")
    try:
        with factory.create() as backend:
            backend.store_data("a", b"x" * 3_000_000)
            backend.store_many([("b", b"y")])
            assert {"a": 3_000_000, "b": 1} == {info.message_id: info.size for info in backend.iter_data()}
            assert [] == list(backend.check())
            backend.delete_data("a")
            assert [] == list(backend.sweep(datetime.max.replace(tzinfo=UTC)))
        with psycopg.connect(server.conninfo) as connection:
            assert [(1,)] == connection.execute(
                "SELECT count(*) FROM pg_class WHERE relname = %s", (factory.table,)
            ).fetchall()
    finally:
        factory.destroy()


def test_a_schema_may_be_named(server: PgDataFactory) -> None:
    schema = f"s.{uuid4().hex[:8]}"
    factory = replace(server, table=f"{schema}.payloads")
    with pytest.raises(BackendError, match="does not exist"):
        factory.create()

    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        try:
            with factory.create() as backend, factory.in_namespace("x").create() as other:
                backend.store_data("a", LARGE)
                assert LARGE == read(backend, "a")
                assert [] == list(other.iter_data())
            assert [("payloads",), ("payloads_chunks",), ("payloads_x$",)] == connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename IN "
                "('payloads', 'payloads_chunks', 'payloads_x$') ORDER BY 1",
                (schema,),
            ).fetchall()
        finally:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def test_destroying_it_leaves_no_table(factory: PgDataFactory) -> None:
    with factory.create() as backend:
        backend.store_data("a", LARGE)
    factory.destroy()
    factory.destroy()

    with psycopg.connect(factory.conninfo) as connection:
        assert (
            []
            == connection.execute(
                "SELECT relname FROM pg_class WHERE position(%s in relname) > 0", (factory.table,)
            ).fetchall()
        )
