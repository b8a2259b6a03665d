"""The tables: made, or the Go system's taken over, by numbered steps that any number of processes may take at once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import LiteralString

from psycopg import errors, sql

from retryspool.errors import BackendError
from retryspool_pg_data.connection import BoundedConnection
from retryspool_pg_data.table import Table

__all__ = ["VERSION", "destroy", "migrate"]

_STEPS: Sequence[Sequence[LiteralString]] = (
    (
        # The Go system's, under its names; but for the collation, which orders ids without regard to a language.
        """CREATE TABLE IF NOT EXISTS {data} (
            message_id VARCHAR(255) COLLATE "C" PRIMARY KEY,
            data BYTEA NOT NULL,
            size BIGINT NOT NULL,
            created TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now(),
            updated TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now()
        )""",
        "CREATE INDEX IF NOT EXISTS {created_index} ON {data} (created)",
        "CREATE INDEX IF NOT EXISTS {updated_index} ON {data} (updated)",
        # What is ours. A row with a generation has its payload in the chunks; `replaced` is the generation before.
        "ALTER TABLE {data} ADD COLUMN IF NOT EXISTS generation UUID, ADD COLUMN IF NOT EXISTS replaced UUID",
        """CREATE TABLE {chunks} (
            generation UUID NOT NULL,
            number INTEGER NOT NULL,
            data BYTEA NOT NULL,
            PRIMARY KEY (generation, number)
        )""",
        """CREATE TABLE {loose} (
            generation UUID PRIMARY KEY,
            message_id VARCHAR(255) COLLATE "C" NOT NULL,
            touched TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT now(),
            dropped BOOLEAN NOT NULL DEFAULT false
        )""",
        """CREATE TABLE {readers} (
            reader UUID PRIMARY KEY,
            generation UUID NOT NULL,
            expires TIMESTAMP WITH TIME ZONE NOT NULL
        )""",
        "CREATE INDEX ON {readers} (generation)",
    ),
)
VERSION = len(_STEPS)
_OURS = ("_chunks", "_loose", "_readers", "_schema")
_COLUMNS = {
    "message_id": {"varchar", "text"},
    "data": {"bytea"},
    "size": {"int8"},
    "created": {"timestamptz"},
    "updated": {"timestamptz"},
}
"""What the payloads' table must have, whoever has made it, and of which types."""


def migrate(connection: BoundedConnection, table: Table) -> None:
    """Bring the tables to this version. It needs no right to create anything where there's nothing to be done.

    :raises BackendError: they are of a newer version, or the table isn't one of payloads
    """
    if _version(connection, table) == VERSION:
        return
    with connection.transaction():
        # Let go of at the end of the transaction, by the server: nothing is left behind by who dies, or by a proxy.
        _run(connection, table, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.run("SELECT pg_advisory_xact_lock(%s)", (_lock_key(table),))
        _run(connection, table, "CREATE TABLE IF NOT EXISTS {schema} (version INTEGER NOT NULL)")
        version = _stored_version(connection, table)
        for step in _STEPS[version:]:
            for statement in step:
                _run(connection, table, statement)
        _check_columns(connection, table)
        if version < VERSION:
            _run(connection, table, "DELETE FROM {schema}")
            _run(connection, table, "INSERT INTO {schema} (version) VALUES (%s)", (VERSION,))


def destroy(connection: BoundedConnection, table: Table) -> None:
    """Drop the tables, those that there are."""
    with connection.transaction():
        connection.run("SELECT pg_advisory_xact_lock(%s)", (_lock_key(table),))
        for suffix in (*_OURS, ""):
            connection.run(sql.SQL("DROP TABLE IF EXISTS {table}").format(table=table.beside(suffix)))


def _run(
    connection: BoundedConnection, table: Table, statement: LiteralString, parameters: Sequence[object] = ()
) -> None:
    connection.run(_fill(table, statement), parameters)


def _fill(table: Table, statement: LiteralString) -> sql.Composed:
    return sql.SQL(statement).format(
        data=table.beside(""),
        chunks=table.beside("_chunks"),
        loose=table.beside("_loose"),
        readers=table.beside("_readers"),
        schema=table.beside("_schema"),
        created_index=table.index("created"),
        updated_index=table.index("updated"),
    )


def _version(connection: BoundedConnection, table: Table) -> int:
    """Return the version that there is, 0 if none."""
    try:
        return _stored_version(connection, table)
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        return 0


def _stored_version(connection: BoundedConnection, table: Table) -> int:
    """Return the version that there is, 0 if none.

    :raises BackendError: it's a newer one
    """
    version: int = connection.run(_fill(table, "SELECT coalesce(max(version), 0) FROM {schema}"))[0][0]
    if version > VERSION:
        raise BackendError(
            f"the tables of {str(table)!r} have version {version}, and this program knows {VERSION} at most; upgrade it"
        )
    return version


def _check_columns(connection: BoundedConnection, table: Table) -> None:
    name = table.beside("").as_string(connection).replace("%%", "%")
    rows = connection.run(
        "SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
        "WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped",
        (name,),
    )
    found: dict[str, str] = dict(rows)
    wrong = [column for column, types in _COLUMNS.items() if found.get(column, "") not in types]
    if wrong:
        raise BackendError(
            f"table {str(table)!r} isn't one of payloads: its columns {', '.join(wrong)} are missing or of "
            "another type; choose another table"
        )


def _lock_key(table: Table) -> int:
    return int.from_bytes(hashlib.sha256(f"retryspool-pg-data {table.name}".encode()).digest()[:8], signed=True)
