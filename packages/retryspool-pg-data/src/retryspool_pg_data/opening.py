"""What a factory needs the driver for: to know what libpq takes, and to open the tables or drop them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from retryspool.errors import InvalidOptionError
from retryspool.urls import BackendUrl
from retryspool_pg_data import schema
from retryspool_pg_data.backend import PgDataBackend
from retryspool_pg_data.connection import BoundedConnection
from retryspool_pg_data.pool import Connections, OwnPool
from retryspool_pg_data.statements import Statements
from retryspool_pg_data.store import Store
from retryspool_pg_data.table import Table

if TYPE_CHECKING:
    from retryspool_pg_data.factory import PgDataFactory

__all__ = ["check", "conninfo_of", "drop_tables", "libpq_settings", "open_backend", "shown"]

_SHOWN = ("host", "hostaddr", "port", "dbname", "user", "service")
_OF_ADDRESS = ("user", "password", "port", "dbname", "connect_timeout")
"""What libpq knows by name and a URL has elsewhere, or we have under the same name."""


# -- settings ----------------------------------------------------------------------------------------------------------


def check(factory: PgDataFactory) -> None:
    """Do nothing if the driver can take the settings.

    :raises InvalidOptionError: libpq can't read where the server is, no table has such a name, or the pool's
        connections can't be told until when to wait
    """
    Table.parse(factory.table)
    if factory.pool is not None:
        _check_connections(factory.pool.connection_class)
    try:
        conninfo_to_dict(factory.conninfo)
    except psycopg.Error:  # its text may hold a part of a password
        raise InvalidOptionError(
            "conninfo doesn't parse: it is 'host=… port=… dbname=… user=… password=…' or postgresql://…"
        ) from None


def _check_connections(made: type[object]) -> None:
    if not issubclass(made, BoundedConnection):
        raise InvalidOptionError(
            f"pool makes connections of {made.__name__}, which may wait for ever: give it "
            "connection_class=retryspool_pg_data.BoundedConnection"
        )


def shown(conninfo: str) -> str:
    """Return it without what may be secret."""
    known = {**conninfo_to_dict(conninfo)}
    return make_conninfo(**{name: str(known[name]) for name in _SHOWN if name in known})


def libpq_settings() -> set[str]:
    """Return the names of what libpq takes as a setting in a URL."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    return known.difference(_OF_ADDRESS)


def conninfo_of(parsed: BackendUrl) -> str:
    """Return what a URL says to libpq.

    :raises InvalidOptionError: it can't be said so
    """
    known = libpq_settings()
    given = {name: value for name, value in parsed.settings.items() if name in known}
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


# -- tables ------------------------------------------------------------------------------------------------------------


def open_backend(factory: PgDataFactory) -> PgDataBackend:
    """Open the tables; make them if they aren't there."""
    table = Table.parse(factory.table)

    def prepare(connection: BoundedConnection) -> Statements:
        schema.migrate(connection, table)
        return Statements.of(table, connection)

    connections = _connections(factory)
    try:
        statements = connections.use(f"opening the payloads in table {factory.table!r}", prepare, effect=False)
    except BaseException:
        connections.close()
        raise
    return PgDataBackend(Store(connections, table, statements, chunk_bytes=factory.chunk_bytes))


def drop_tables(factory: PgDataFactory) -> None:
    """Drop the tables."""
    connections = _connections(factory)
    try:
        doing = f"dropping table {factory.table!r}"
        connections.use(doing, schema.destroy, Table.parse(factory.table), effect=True)
    finally:
        connections.close()


def _connections(factory: PgDataFactory) -> Connections:
    f = factory
    own = OwnPool(f.conninfo, min(f.min_size, f.max_size), f.max_size, f.connect_timeout, f.prepare)
    return Connections(f.pool or own, timeout=f.timeout)
