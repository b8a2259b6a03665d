"""Mutants that open, close, wait, or keep wrong."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest import mock

from retryspool_onefile_meta import OneFileMeta, store

from mutants.kinds import mutant
from retryspool.memory import MemoryMeta
from retryspool.meta import ListOptions, ListResult
from retryspool.model import Finding, MessageMetadata, State


@mutant("META-42")
class ClosedGoesOn(MemoryMeta):
    """A closed backend still reads."""

    def get_meta(self, message_id: str) -> MessageMetadata:
        with self._shared.changed:
            return self._shared.get(message_id)


@mutant("META-42")
class ClosedHangs(MemoryMeta):
    """A call on a closed backend waits for an answer that never comes."""

    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 -- frozen
        if self._closed:
            threading.Event().wait(3600)
        return super().list_messages(state, options)


@mutant("META-46")
class DeadlineIsLookedAtAfterwards(MemoryMeta):
    """A deadline that has passed is noticed when the record is stored."""

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        with mock.patch("retryspool.memory.check_deadline"):
            super().store_meta(message_id, metadata)
        return self.get_meta(message_id)


@mutant("META-41")
class WaitHearsNothing(MemoryMeta):
    """Nobody is woken, and no change is told."""

    def wait_for_change(self, timeout: float) -> bool:
        super().wait_for_change(0)
        threading.Event().wait(max(0.0, timeout))
        return False


@mutant("META-41")
class WaitOutlastsItsTime(MemoryMeta):
    """A wait takes at least three seconds."""

    def wait_for_change(self, timeout: float) -> bool:
        return super().wait_for_change(max(timeout, 3))


@mutant("META-51")
class CheckCleansUp(MemoryMeta):
    """`check()` deletes what it takes for rubbish."""

    def check(self) -> Iterator[Finding]:
        for record in list(self.iter_messages(State.ARCHIVED)):
            self.delete_meta(record.id)
        return super().check()


@mutant("META-58")
class EachErrorCostsAConnection(MemoryMeta):
    """ "Not found" leaves a transaction open, and its connection gone; there are twenty."""

    def plant(self) -> None:
        self._connections = threading.Semaphore(20)

    @contextmanager
    def _store(self) -> Iterator[Any]:  # type: ignore[override]
        self._connections.acquire()
        with super()._store() as records:
            yield records
        self._connections.release()  # not reached by an error


@mutant("META-47")
class ReopeningForgetsClaims(OneFileMeta):
    """At opening, what is `ACTIVE` becomes `INCOMING` again."""

    def plant(self) -> None:
        with self._changing() as records:
            for message_id, record in records.items():
                if record.state is State.ACTIVE:
                    records[message_id] = replace(record, state=State.INCOMING, version=record.version + 1)


def _save_by(file: store.FileStore, backend: _Saves, records: dict[str, MessageMetadata]) -> None:
    backend.save(file, records)


class _Saves(OneFileMeta):
    """Saves the file in a way of its own."""

    def plant(self) -> None:
        kind = type("Store", (store.FileStore,), {"_save": partialmethod(_save_by, self)})
        self._store = kind(self._store.path)

    def save(self, file: store.FileStore, records: dict[str, MessageMetadata]) -> None:
        raise NotImplementedError


@contextmanager
def _without_sync(*, of_folders: bool) -> Iterator[None]:
    real = os.fsync

    def sync(descriptor: int) -> None:
        if of_folders != Path(f"/proc/self/fd/{descriptor}").is_dir():
            real(descriptor)

    os.fsync = sync
    try:
        yield
    finally:
        os.fsync = real


@mutant("META-57")
class NoSyncBeforeTheRename(_Saves):
    """The new file gets its name before its content is on the disk."""

    def save(self, file: store.FileStore, records: dict[str, MessageMetadata]) -> None:
        with _without_sync(of_folders=False):
            store.FileStore._save(file, records)


@mutant("META-57")
class NoSyncOfTheFolder(_Saves):
    """The new file's name isn't synced."""

    def save(self, file: store.FileStore, records: dict[str, MessageMetadata]) -> None:
        with _without_sync(of_folders=True):
            store.FileStore._save(file, records)


@mutant("META-57")
class RemoveBeforeRename(_Saves):
    """The old file is removed before the new one gets its name."""

    def save(self, file: store.FileStore, records: dict[str, MessageMetadata]) -> None:
        file.path.unlink(missing_ok=True)
        store._sync_folder(file.path.parent)
        store.FileStore._save(file, records)


@mutant("META-48")
class WritesBehind(_Saves):
    """A write is acknowledged, and reaches the file a moment later."""

    def plant(self) -> None:
        self._ahead: dict[str, MessageMetadata] | None = None
        super().plant()
        read = store.FileStore.read
        kind = type("Behind", (type(self._store),), {"read": lambda each: dict(self._ahead or read(each))})
        self._store = kind(self._store.path)
        threading.Thread(target=self._write, daemon=True).start()

    def save(self, file: store.FileStore, records: dict[str, MessageMetadata]) -> None:
        self._ahead = dict(records)

    def _write(self) -> None:
        while not self._closed:
            threading.Event().wait(0.2)
            if self._ahead is not None:
                store.FileStore._save(self._store, self._ahead)
