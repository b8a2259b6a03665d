"""The file: read as a whole, replaced as a whole, by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from retryspool.deadline import check_deadline
from retryspool.errors import BackendError, BackendUnavailableError, CorruptRecordError, StorageError
from retryspool.model import MessageMetadata, State

__all__ = ["FileStore"]

_TIMES = ("next_retry", "created", "updated", "lease_expires")
_RETRY_S = 0.005


@dataclass(frozen=True, slots=True)
class FileStore:
    """All records, by id."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Make the folder and an empty file if they aren't there."""
        store = cls(path)
        with _wrapping(path):
            _make_folder(path.parent)
            with store._locked():
                if not path.exists():
                    store._save({})
        return store

    @staticmethod
    def remove(path: Path) -> None:
        """Remove the file, and its folder if nothing else is in it."""
        with _wrapping(path):
            for each in (path, _beside(path, "lock"), _beside(path, "new")):
                each.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()

    def read(self) -> dict[str, MessageMetadata]:
        """Return all records as they are now. No lock: the file under this name is always a whole one."""
        with _wrapping(self.path):
            content = self.path.read_text(encoding="utf-8")
        try:
            return {message_id: _decode(message_id, stored) for message_id, stored in json.loads(content).items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptRecordError(f"{str(self.path)!r} can't be read: {error}; restore it") from error

    @contextmanager
    def changing(self) -> Generator[dict[str, MessageMetadata]]:
        """Return all records, to be changed; they are stored at the end of the block, unless it raises."""
        with _wrapping(self.path), self._locked():
            records = self.read()
            yield records
            self._save(records)

    @contextmanager
    def _locked(self) -> Generator[None]:
        # A descriptor for each time: such locks hold between threads as between processes, and no fork inherits one.
        with _beside(self.path, "lock").open("w") as lock:
            while True:
                check_deadline()
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    threading.Event().wait(_RETRY_S)
            yield

    def _save(self, records: dict[str, MessageMetadata]) -> None:
        new = _beside(self.path, "new")
        with new.open("w", encoding="utf-8") as file:
            json.dump({message_id: _encode(record) for message_id, record in records.items()}, file)
            file.flush()
            os.fsync(file.fileno())  # before it gets the name: else a power cut leaves the name without the content
        new.replace(self.path)
        _sync_folder(self.path.parent)


@contextmanager
def _wrapping(path: Path) -> Generator[None]:
    try:
        yield
    except StorageError:  # one of ours: DeadlineExceededError is an OSError too
        raise
    except FileNotFoundError as error:
        raise BackendError(f"{str(path)!r} isn't there any more: {error}") from error
    except OSError as error:
        raise BackendUnavailableError(f"{str(path)!r}: {error}", outcome="unknown") from error


def _make_folder(folder: Path) -> None:
    """Make a folder, and those around it, so that a power cut leaves them there."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _sync_folder(each.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _encode(record: MessageMetadata) -> dict[str, Any]:
    fields = {**asdict(record), "headers": dict(record.headers)}
    fields |= {name: getattr(record, name).isoformat() for name in _TIMES}
    fields["state"] = record.state.value
    fields["claimed_from"] = None if record.claimed_from is None else record.claimed_from.value
    return fields


def _decode(message_id: str, fields: dict[str, Any]) -> MessageMetadata:
    fields = {**fields, "id": message_id, "state": State(fields["state"])}
    fields |= {name: datetime.fromisoformat(fields[name]) for name in _TIMES}
    fields["claimed_from"] = None if fields["claimed_from"] is None else State(fields["claimed_from"])
    return MessageMetadata(**fields)
