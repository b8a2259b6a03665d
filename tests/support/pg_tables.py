"""What tests look at in PostgreSQL without the backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from retryspool_pg_data import PgDataFactory
from retryspool_pg_data.table import Table

PATIENCE_S = 20


class Tables:
    """A store's tables, seen by a connection of their own."""

    def __init__(self, factory: PgDataFactory) -> None:
        self.connection = psycopg.connect(factory.conninfo, autocommit=True)
        table = Table.parse(factory.table)
        self._names = {name: table.beside(f"_{name}") for name in ("chunks", "loose", "readers", "schema")}
        self._names["data"] = table.beside("")

    def ask(self, query: Any, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement, in which {data}, {chunks}, {loose}, {readers} and {schema} stand for the tables."""
        cursor = self.connection.execute(sql.SQL(query).format(**self._names), parameters)
        return cursor.fetchall() if cursor.description else []

    def count(self, name: str) -> int:
        """Return how many rows a table has."""
        return self.ask(f"SELECT count(*) FROM {{{name}}}")[0][0]

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has, but for the one of versions."""
        return {name: self.count(name) for name in ("data", "chunks", "loose", "readers")}

    def waiting(self, table: str) -> int:
        """Return how many statements on a table wait for others' locks."""
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 "
            "AND position(%s in query) > 0"
        )
        self.ask("SELECT pg_stat_clear_snapshot()")  # else a transaction goes on seeing what it has seen first
        return self.ask(query, table)[0][0]


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread or process does; fail if it doesn't."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, f"it hasn't come true in {PATIENCE_S} s"
        time.sleep(0.01)
