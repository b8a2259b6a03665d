"""The settings of the data backend on PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from retryspool.data import DataFactory
from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.urls import parse_url, redact

if TYPE_CHECKING:
    from retryspool_pg_data.backend import PgDataBackend
    from retryspool_pg_data.pool import Pool

__all__ = ["PgDataFactory"]

# psycopg takes a fifth of a second to import, and many only list us: what needs it is imported when it's called.

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
        from retryspool_pg_data.opening import check  # noqa: PLC0415 -- psycopg is slow to import

        _check_range("max_size", self.max_size, 1, 10_000)
        _check_range("min_size", self.min_size, 0, 10_000)
        _check_range("chunk_bytes", self.chunk_bytes, *_CHUNK_BYTES)
        for name in ("connect_timeout", "timeout"):
            seconds: float = getattr(self, name)
            if not 0 < seconds < math.inf:
                raise InvalidOptionError(f"{name} is {seconds!r}; it must be a number of seconds above 0")
        check(self)

    def __repr__(self) -> str:
        """Without what may be secret."""
        from retryspool_pg_data.opening import shown  # noqa: PLC0415 -- psycopg is slow to import

        return f"PgDataFactory({shown(self.conninfo)!r}, table={self.table!r})"

    def create(self) -> PgDataBackend:
        from retryspool_pg_data.opening import open_backend  # noqa: PLC0415 -- psycopg is slow to import

        return open_backend(self)

    def destroy(self) -> None:
        """Drop the tables."""
        from retryspool_pg_data.opening import drop_tables  # noqa: PLC0415 -- psycopg is slow to import

        drop_tables(self)

    def in_namespace(self, namespace: str) -> Self:
        """Return the same settings for the table `<table>_<namespace>$`."""
        from retryspool_pg_data.table import Table  # noqa: PLC0415 -- psycopg is slow to import

        return replace(self, table=str(Table.parse(self.table).in_namespace(namespace)))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from `pg://user:password@host:port/dbname`.

        Our own may follow, as in `?table=x&max_size=50`, and libpq's, as in `?sslmode=require`; a folder with the
        server's socket is `pg:///dbname?host=/run/postgresql`.
        """
        from retryspool_pg_data.opening import conninfo_of, libpq_settings  # noqa: PLC0415 -- psycopg is slow to import

        ours: dict[str, Callable[[str], object]] = {
            "table": str,
            "max_size": int,
            "min_size": int,
            "chunk_bytes": int,
            "prepare": _switch,
            "connect_timeout": float,
            "timeout": float,
        }
        parsed = parse_url(url, {**dict.fromkeys(libpq_settings(), str), **ours})
        try:
            settings = cast("dict[str, Any]", {name: parsed.settings[name] for name in parsed.settings if name in ours})
            return cls(conninfo_of(parsed), **settings)
        except InvalidOptionError as error:
            raise InvalidUrlError(f"{redact(url)!r}: {error}") from None


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("it must be on or off")
    return text == "on"


def _check_range(name: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise InvalidOptionError(f"{name} is {number!r}; it must be from {least} to {most}")
