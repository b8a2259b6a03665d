"""A small backend in a table of SQLite, by which transactions of the caller's are tried, against the contract."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlite_meta import SqliteMetaFactory

from retryspool.conformance import MetaBackendSuite
from retryspool.meta import MetaFactory


class TestSqliteMeta(MetaBackendSuite):
    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path) -> Iterator[None]:
        self.folder = tmp_path
        with ExitStack() as self.opened:
            yield

    def factory(self, namespace: str) -> MetaFactory:
        return SqliteMetaFactory(self.folder / "records.db").in_namespace(namespace)

    def url(self) -> str:
        return f"sqlite:{self.folder}/by-url.db"

    def begin_transaction(self, namespace: str) -> sqlite3.Connection:
        path = SqliteMetaFactory(self.folder / "records.db").in_namespace(namespace).path
        connection = sqlite3.connect(path)
        self.opened.callback(connection.close)
        connection.execute("BEGIN")
        return connection
