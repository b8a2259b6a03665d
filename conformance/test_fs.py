"""The file backends against the contract."""

from pathlib import Path

import pytest

from retryspool.conformance import DataBackendSuite, MetaBackendSuite
from retryspool.data import DataFactory
from retryspool.meta import MetaFactory
from retryspool_fs_data import FsDataFactory
from retryspool_fs_meta import FsMetaFactory


class _Folder:
    """A folder for the namespaces of each test."""

    folder: Path

    @pytest.fixture(autouse=True)
    def _own_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def local_folder(self, namespace: str) -> Path:
        return self.folder / namespace


class TestFsMeta(_Folder, MetaBackendSuite):
    def factory(self, namespace: str) -> MetaFactory:
        return FsMetaFactory(self.folder).in_namespace(namespace)


class TestFsData(_Folder, DataBackendSuite):
    def factory(self, namespace: str) -> DataFactory:
        return FsDataFactory(self.folder).in_namespace(namespace)
