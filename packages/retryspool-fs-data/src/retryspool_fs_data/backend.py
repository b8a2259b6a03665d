"""The data backend on plain files."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import BinaryIO, ClassVar

from retryspool.data import DataBackend, DataCapabilities, DataInfo, Payload
from retryspool.errors import DataNotFoundError, StorageError
from retryspool.files import SyncMode, network_file_system, wrapping_disk_errors
from retryspool.ids import validate_message_id
from retryspool.model import Finding, Severity
from retryspool_fs_data.batch import store_batch
from retryspool_fs_data.store import Store
from retryspool_fs_data.writer import FsDataWriter

__all__ = ["FsDataBackend"]

_BATCH = 64
"""How many files `store_many` holds open at a time."""

_RISKS = {
    SyncMode.HYBRID: (Severity.NOTICE, "a power cut may take the payloads of the last moments with it"),
    SyncMode.PERFORMANCE: (
        Severity.WARNING,
        "a power cut may take payloads with it, or leave them torn, which is found out when they are read",
    ),
}


class FsDataBackend(DataBackend):
    """Payloads as files, one each. Made by `FsDataFactory`.

    Several processes may open the same folder. Readers that are open go on reading what they opened, whatever becomes
    of the payload, the backend, or the process that forked them; an `OSError` of theirs is passed on as it is.
    """

    capabilities: ClassVar[DataCapabilities] = DataCapabilities(processes=True, durable=True)

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"FsDataBackend({self._store.base!r}, sync={self._store.durability.mode.value!r})"

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> FsDataWriter:
        validate_message_id(message_id)
        self._store.check_writing()
        return FsDataWriter.open(self._store, message_id, if_absent=if_absent)

    def get_data_reader(self, message_id: str) -> BinaryIO:
        fd, _ = self._open(message_id)
        return os.fdopen(fd, "rb")

    def _open(self, message_id: str) -> tuple[int, int]:
        validate_message_id(message_id)
        self._store.check()
        with wrapping_disk_errors(f"opening the payload of message {message_id!r}"):
            return self._store.shards.open_payload(message_id)

    def delete_data(self, message_id: str) -> None:
        validate_message_id(message_id)
        self._store.check_writing()
        with wrapping_disk_errors(f"deleting the payload of message {message_id!r}"):
            self._store.shards.remove(message_id)

    def iter_data(self) -> Iterator[DataInfo]:
        self._store.check()
        return self._iterate()

    def _iterate(self) -> Iterator[DataInfo]:
        with wrapping_disk_errors(f"listing the payloads in {self._store.base!r}"):
            for message_id, entry in self._store.shards.scan():
                if message_id is not None:
                    self._store.check()
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # deleted meanwhile
                        continue
                    yield DataInfo(message_id, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def store_many(self, items: Iterable[tuple[str, Payload]], *, if_absent: bool = False) -> list[int | StorageError]:
        items = list(items)
        for message_id, _ in items:
            validate_message_id(message_id)
        self._store.check_writing()
        results: list[int | StorageError] = []
        for start in range(0, len(items), _BATCH):
            results += store_batch(self._store, items[start : start + _BATCH], if_absent=if_absent)
        return results

    def fetch_many(self, message_ids: Sequence[str], *, max_bytes: int) -> Mapping[str, bytes]:
        self._store.check()
        found: dict[str, bytes] = {}
        for message_id in message_ids:
            try:
                fd, size = self._open(message_id)
            except DataNotFoundError:
                continue
            with wrapping_disk_errors(f"reading the payload of message {message_id!r}"), io.FileIO(fd) as file:
                if size <= max_bytes:
                    found[message_id] = file.readall()
        return found

    def check(self) -> Iterator[Finding]:
        self._store.check()
        return self._findings()

    def _findings(self) -> Iterator[Finding]:
        base, mode = self._store.base, self._store.durability.mode
        if mode in _RISKS:
            severity, risk = _RISKS[mode]
            yield Finding(severity, f"sync={mode.value}", f"{risk}; sync=standard prevents that")
        network = network_file_system(base)
        if network is not None:
            text = f"this is a network file system ({network}), whose syncs and locks may not hold; use a local disk"
            yield Finding(Severity.WARNING, base, text)
        with wrapping_disk_errors(f"checking the payloads in {base!r}"):
            for message_id, entry in self._store.shards.scan():
                if message_id is None:
                    self._store.check()
                    text = "this is no payload where a payload could be, and is left alone; move it elsewhere"
                    if entry.is_symlink():
                        text = "this is a symbolic link, which is never followed; replace it by what it points to"
                    yield Finding(Severity.NOTICE, entry.path, text)

    def close(self) -> None:
        with wrapping_disk_errors("closing the data backend"):
            self._store.close()
