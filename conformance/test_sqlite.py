"""A small backend in a table of SQLite, by which transactions of the caller's are tried, against the contract."""

from pathlib import Path

import pytest
from sqlite_meta import SqliteMetaFactory

from retryspool.conformance import MetaBackendSuite
from retryspool.meta import MetaFactory


class TestSqliteMeta(MetaBackendSuite):
    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def factory(self, namespace: str) -> MetaFactory:
        return SqliteMetaFactory(self.folder / "records.db").in_namespace(namespace)

    def url(self) -> str:
        return f"sqlite:{self.folder}/by-url.db"
