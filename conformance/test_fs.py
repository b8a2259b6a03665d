"""The file backends against the contract."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retryspool.conformance import DataBackendSuite, MetaBackendSuite
from retryspool.data import DataFactory
from retryspool.meta import MetaFactory
from retryspool.model import MessageMetadata, State
from retryspool_fs_data import FsDataFactory
from retryspool_fs_meta import FsMetaFactory

_GO_RECORD = """{
  "ID": "%(id)s",
  "State": %(state)d,
  "Attempts": 2,
  "MaxAttempts": 7,
  "NextRetry": "2024-05-06T09:08:09.123456789+02:00",
  "Created": "2024-05-06T07:08:09.123456Z",
  "Updated": "2024-05-06T07:08:09.123456Z",
  "LastError": "451 4.7.1 try later",
  "Size": 2048,
  "Priority": 3,
  "Headers": {
    "to": "zo\\u00eb"
  },
  "RetryPolicyName": "fixed"
}"""


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

    def raw_get(self, namespace: str, message_id: str) -> bytes:
        return self._record(namespace, message_id).read_bytes()

    def raw_put(self, namespace: str, message_id: str, stored: bytes) -> None:
        self._record(namespace, message_id).write_bytes(stored)

    def _record(self, namespace: str, message_id: str) -> Path:
        (path,) = (self.folder / namespace).glob(f"*/{message_id}.json")
        return path

    def old_formats(self) -> Mapping[str, Callable[[str], Mapping[str, MessageMetadata]]]:
        return {"the Go system's": self._as_the_go_system_wrote_it}

    def _as_the_go_system_wrote_it(self, namespace: str) -> Mapping[str, MessageMetadata]:
        for state in State:
            folder = self.folder / namespace / state.label
            folder.mkdir(parents=True)
            (folder / f"{state.label}.json").write_text(_GO_RECORD % {"id": state.label, "state": state.value})
        time = datetime(2024, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
        whole = MessageMetadata(
            "", State.INCOMING, 2, 7, time, time, time, "451 4.7.1 try later", 2048, 3, {"to": "zoë"}
        )
        return {state.label: replace(whole, id=state.label, state=state, retry_policy_name="fixed") for state in State}


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
