"""The file backends against the contract."""

from collections.abc import Callable, Mapping
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

    def url(self) -> str:
        return f"fs://{self.folder}/by-url?sync=hybrid&sync_interval=0.5"


class TestFsMeta(_Folder, MetaBackendSuite):
    def factory(self, namespace: str) -> MetaFactory:
        return FsMetaFactory(self.folder).in_namespace(namespace)


class TestFsData(_Folder, DataBackendSuite):
    def factory(self, namespace: str) -> DataFactory:
        return FsDataFactory(self.folder).in_namespace(namespace)

    def raw_get(self, namespace: str, message_id: str) -> bytes:
        return _payload(self.folder / namespace, message_id).read_bytes()

    def raw_put(self, namespace: str, message_id: str, stored: bytes) -> None:
        _payload(self.folder / namespace, message_id).write_bytes(stored)

    def old_formats(self) -> Mapping[str, Callable[[str], Mapping[str, bytes]]]:
        return {"the Go system's": self._as_the_go_system_wrote_it}

    def _as_the_go_system_wrote_it(self, namespace: str) -> Mapping[str, bytes]:
        payloads = {"a": b"short", "ab": b"", "msg-0001": b"x" * 300_000, "MSG-0001": b"another"}
        for message_id, content in payloads.items():
            path = _payload(self.folder / namespace, message_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return payloads


def _payload(folder: Path, message_id: str) -> Path:
    shard = message_id[:2] if len(message_id) > 1 else "misc"
    return folder / shard / f"{message_id}.data"
