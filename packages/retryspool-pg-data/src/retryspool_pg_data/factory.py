"""The settings of the data backend on PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, TypeVar, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from retryspool.data import DataFactory
from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.urls import BackendUrl, parse_url, redact
from retryspool_pg_data import schema
from retryspool_pg_data.backend import PgDataBackend
from retryspool_pg_data.connection import BoundedConnection
from retryspool_pg_data.pool import Connections, OwnPool, Pool
from retryspool_pg_data.statements import Statements
from retryspool_pg_data.store import Store
from retryspool_pg_data.table import Table

__all__ = ["PgDataFactory"]

R = TypeVar("R")

_SHOWN = ("host", "hostaddr", "port", "dbname", "user", "service")
_OF_ADDRESS = ("user", "password", "port", "dbname", "connect_timeout")
"""What libpq knows by name and a URL has elsewhere, or we have under the same name."""
_CHUNK_BYTES = (64 * 1024, 64 * 1024 * 1024)


@dataclass(frozen=True, repr=False)
class PgDataFactory(DataFactory):
    """Payloads in a table of PostgreSQL, which the Go system's may be.

    :raises InvalidOptionError: a setting is out of its range
    """

    name: ClassVar[str] = "pg"
    schemes: ClassVar[tuple[str, ...]] = ("postgresql", "postgres")

    conninfo: str = ""
    """Where, in libpq's words: `host=… dbname=…` or `postgresql://…`; the rest comes from `PGHOST` and so on."""
    table: str = field(default="retryspool_data", kw_only=True)
    """The table, or `schema.table`; it's made if it isn't there, the schema is not."""
    max_size: int = field(default=25, kw_only=True)
    """How many connections there may be."""
    min_size: int = field(default=5, kw_only=True)
    """How many stay open, once that several are needed at a time; no more than `max_size`."""
    chunk_bytes: int = field(default=1024 * 1024, kw_only=True)
    """Up to what size a payload is stored in one piece, and how large the pieces of others are."""
    prepare: bool = field(default=True, kw_only=True)
    """Whether the server may prepare statements; off for proxies that can't have that."""
    connect_timeout: float = field(default=5.0, kw_only=True)
    """How long connecting may take, in seconds; libpq makes it two at least."""
    timeout: float = field(default=30.0, kw_only=True)
    """How long a statement may take, the wait for a connection included, in seconds; a deadline may shorten it."""
    pool: Pool | None = field(default=None, kw_only=True)
    """A pool of `BoundedConnection` to use in place of one of our own; it's left open."""

    def __post_init__(self) -> None:
        Table.parse(self.table)
        _check_range("max_size", self.max_size, 1, 10_000)
        _check_range("min_size", self.min_size, 0, 10_000)
        _check_range("chunk_bytes", self.chunk_bytes, *_CHUNK_BYTES)
        for name in ("connect_timeout", "timeout"):
            seconds: float = getattr(self, name)
            if not 0 < seconds < math.inf:
                raise InvalidOptionError(f"{name} is {seconds!r}; it must be a number of seconds above 0")
        if self.pool is not None:
            _check_connections(self.pool.connection_class)
        try:
            conninfo_to_dict(self.conninfo)
        except psycopg.Error:  # its text may hold a part of a password
            raise InvalidOptionError(
                "conninfo doesn't parse: it is 'host=… port=… dbname=… user=… password=…' or postgresql://…"
            ) from None

    def __repr__(self) -> str:
        """Without what may be secret."""
        known = {**conninfo_to_dict(self.conninfo)}
        shown = {name: str(known[name]) for name in _SHOWN if name in known}
        return f"PgDataFactory({make_conninfo(**shown)!r}, table={self.table!r})"

    def create(self) -> PgDataBackend:
        table = Table.parse(self.table)
        doing = f"opening the payloads in table {self.table!r}"

        def prepare(connection: BoundedConnection) -> Statements:
            schema.migrate(connection, table)
            return Statements.of(table, connection)

        connections = self._connections()
        try:
            statements = connections.use(doing, prepare, effect=False)
        except BaseException:
            connections.close()
            raise
        return PgDataBackend(Store(connections, table, statements, chunk_bytes=self.chunk_bytes))

    def destroy(self) -> None:
        """Drop the tables."""
        table = Table.parse(self.table)
        connections = self._connections()
        try:
            connections.use(f"dropping table {self.table!r}", schema.destroy, table, effect=True)
        finally:
            connections.close()

    def _connections(self) -> Connections:
        own = OwnPool(
            self.conninfo, min(self.min_size, self.max_size), self.max_size, self.connect_timeout, self.prepare
        )
        return Connections(self.pool or own, timeout=self.timeout)

    def in_namespace(self, namespace: str) -> Self:
        """Return the same settings for the table `<table>_<namespace>$`."""
        return replace(self, table=str(Table.parse(self.table).in_namespace(namespace)))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from `pg://user:password@host:port/dbname`.

        Our own may follow, as in `?table=x&max_size=50`, and libpq's, as in `?sslmode=require`; a folder with the
        server's socket is `pg:///dbname?host=/run/postgresql`.
        """
        ours: dict[str, Callable[[str], object]] = {
            "table": str,
            "max_size": int,
            "min_size": int,
            "chunk_bytes": int,
            "prepare": _switch,
            "connect_timeout": float,
            "timeout": float,
        }
        parsed = parse_url(url, {**dict.fromkeys(_libpq_settings(), str), **ours})
        try:
            settings = cast("dict[str, Any]", {name: parsed.settings[name] for name in parsed.settings if name in ours})
            return cls(_conninfo(parsed), **settings)
        except InvalidOptionError as error:
            raise InvalidUrlError(f"{redact(url)!r}: {error}") from None


def _libpq_settings() -> set[str]:
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    return known.difference(_OF_ADDRESS)


def _conninfo(parsed: BackendUrl) -> str:
    given = {name: value for name, value in parsed.settings.items() if name in _libpq_settings()}
    if parsed.host and "host" in given:
        raise InvalidOptionError("the host is given twice, before the path and as a setting")
    parts = {
        "host": parsed.host,
        "port": parsed.port,
        "user": parsed.user,
        "password": parsed.password,
        "dbname": parsed.path.removeprefix("/"),
    }
    wanted = {name: value for name, value in parts.items() if value not in (None, "")}
    try:
        return make_conninfo(**cast("dict[str, Any]", {**wanted, **given}))
    except psycopg.Error:
        raise InvalidOptionError("libpq doesn't take its settings") from None


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("it must be on or off")
    return text == "on"


def _check_connections(made: type[object]) -> None:
    if not issubclass(made, BoundedConnection):
        raise InvalidOptionError(
            f"pool makes connections of {made.__name__}, which may wait for ever: give it "
            "connection_class=retryspool_pg_data.BoundedConnection"
        )


def _check_range(name: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise InvalidOptionError(f"{name} is {number!r}; it must be from {least} to {most}")
