from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from psycopg import Connection
from psycopg_pool import ConnectionPool

import retryspool_pg_data
from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.plugins import data_factory_at, get_data_factory
from retryspool_pg_data import BoundedConnection, PgDataFactory
from retryspool_pg_data.table import MAX_NAME_BYTES, Table

SECRET = "hun/ter 2"


def parts(conninfo: str) -> set[str]:
    return set(conninfo.replace("\\ ", "~").split())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("pg://", PgDataFactory()),
        ("pg:///spool", PgDataFactory("dbname=spool")),
        ("postgresql://h/d", PgDataFactory("host=h dbname=d")),
        ("postgres://h/d?table=x", PgDataFactory("host=h dbname=d", table="x")),
        ("pg://u@[::1]:5/d", PgDataFactory("host=::1 port=5 user=u dbname=d")),
        ("pg:///d?host=/run/pg", PgDataFactory("dbname=d host=/run/pg")),
        ("pg://h/d?sslmode=require", PgDataFactory("host=h dbname=d sslmode=require")),
        (
            "pg://h/?table=s.t&max_size=9&min_size=0&chunk_bytes=65536&prepare=off&connect_timeout=2.5&timeout=7",
            PgDataFactory(
                "host=h",
                table="s.t",
                max_size=9,
                min_size=0,
                chunk_bytes=65536,
                prepare=False,
                connect_timeout=2.5,
                timeout=7,
            ),
        ),
    ],
)  # fmt: skip
def test_a_url_holds_the_settings(url: str, expected: PgDataFactory) -> None:
    found = PgDataFactory.from_url(url)

    assert parts(expected.conninfo) == parts(found.conninfo)
    for name in ("table", "max_size", "min_size", "chunk_bytes", "prepare", "connect_timeout", "timeout"):
        assert getattr(expected, name) == getattr(found, name)


@pytest.mark.parametrize(
    "url",
    [
        "pg://h/d?tabel=x",
        "pg://h/d?table=x&table=y",
        "pg://h/d?table=",
        "pg://h/d?max_size=many",
        "pg://h/d?max_size=0",
        "pg://h/d?chunk_bytes=1",
        "pg://h/d?prepare=maybe",
        "pg://h/d?timeout=0",
        "pg://h/d?timeout=nan",
        "pg://h/d?connect_timeout=inf",
        "pg://h/d?host=other",
        "pg://h/d?password=x",
        "pg://h:port/d",
    ],
)
def test_a_url_that_is_wrong_is_refused_and_shows_no_password(url: str) -> None:
    with pytest.raises(InvalidUrlError) as caught:
        PgDataFactory.from_url(url.replace("pg://h", "pg://u:hunter2@h"))

    assert "hunter2" not in str(caught.value)


def test_the_password_is_shown_nowhere() -> None:
    by_url = PgDataFactory.from_url("pg://u:hun%2Fter%202@h/d?sslpassword=hunter3")
    by_text = PgDataFactory(f"host=h dbname=d user=u password='{SECRET}'")

    for factory in (by_url, by_text):
        assert SECRET in factory.conninfo
        assert "PgDataFactory('host=h dbname=d user=u', table='retryspool_data')" == repr(factory)


def test_what_is_no_conninfo_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidOptionError, match="conninfo doesn't parse") as caught:
        PgDataFactory("host=h hunter2")

    assert "hunter2" not in str(caught.value)


def test_a_factory_goes_to_another_process() -> None:
    factory = PgDataFactory("host=h", table="x", timeout=3)

    assert factory == pickle.loads(pickle.dumps(factory))


def test_it_is_found_by_name_and_by_each_scheme() -> None:
    assert PgDataFactory is get_data_factory("pg")
    for scheme in ("pg", "postgres", "postgresql"):
        assert isinstance(data_factory_at(f"{scheme}://h/d"), PgDataFactory)


def test_whoever_only_lists_plugins_does_not_import_psycopg() -> None:
    script = (
        "import sys, retryspool_pg_data; from retryspool.plugins import get_data_factory; "
        "assert retryspool_pg_data.PgDataFactory is get_data_factory('pg'); "
        "print([name for name in sys.modules if name.startswith('psycopg')])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]\n" == ran.stdout


def test_the_package_has_what_it_exports_and_nothing_else() -> None:
    assert issubclass(retryspool_pg_data.BoundedConnection, Connection)
    with pytest.raises(AttributeError, match="'retryspool_pg_data' has no attribute 'Bounded'"):
        retryspool_pg_data.Bounded  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue, reportUnusedExpression]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("payloads", Table("payloads")),
        ("Payloads", Table("Payloads")),
        ("mail.payloads", Table("payloads", "mail")),
        ('x"; DROP TABLE y; --', Table('x"; DROP TABLE y; --')),
        ("x" * MAX_NAME_BYTES, Table("x" * MAX_NAME_BYTES)),
    ],
)
def test_a_table_is_named_with_or_without_its_schema(text: str, expected: Table) -> None:
    assert expected == Table.parse(text)


@pytest.mark.parametrize(
    "text", ["", ".", "x.", ".x", "a\0b", "x" * (MAX_NAME_BYTES + 1), "ä" * 30, "\ud800", "s" * 64 + ".x"]
)
def test_what_names_no_table_is_refused(text: str) -> None:
    with pytest.raises(InvalidOptionError, match="table is"):
        PgDataFactory(table=text)


def test_a_name_that_leaves_no_room_for_a_namespace_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="table is"):
        PgDataFactory(table="x" * MAX_NAME_BYTES).in_namespace("a")


def test_no_two_namespaces_have_a_table_in_common() -> None:
    base = PgDataFactory(table="t")
    names = ["a", "a_chunks", "chunks", "loose", "b", "a_b"]
    factories = [base, *(base.in_namespace(name) for name in names)]
    factories += [base.in_namespace("a").in_namespace(name) for name in names]

    tables = [f"{factory.table}{suffix}" for factory in factories for suffix in ("", "_chunks", "_loose", "_readers")]
    assert len(tables) == len(set(tables))


def test_a_pool_whose_connections_may_wait_for_ever_is_refused() -> None:
    with ConnectionPool("", connection_class=BoundedConnection, min_size=0, max_size=1, open=False) as pool:
        assert pool is PgDataFactory(pool=pool).pool

    with (
        ConnectionPool("", connection_class=Connection, min_size=0, max_size=1, open=False) as pool,
        pytest.raises(InvalidOptionError, match="BoundedConnection"),
    ):
        PgDataFactory(pool=pool)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
