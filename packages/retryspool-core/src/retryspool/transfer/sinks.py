"""What an export writes to: a folder, a Maildir, a mailbox in one file, a tar archive."""

from __future__ import annotations

import io
import os
import re
import tarfile
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast
from uuid import uuid4

from retryspool.data import CHUNK_BYTES
from retryspool.errors import InvalidMetadataError, InvalidOptionError
from retryspool.files import Directory, make_directory
from retryspool.model import MessageMetadata
from retryspool.spool.integrity import Fingerprint
from retryspool.transfer.documents import to_document
from retryspool.transfer.folders import DATA_SUFFIX, DOCUMENT_SUFFIX, DOCUMENTS
from retryspool.transfer.found import document_beside
from retryspool.transfer.mbox import quoted

__all__ = ["FolderSink", "MaildirSink", "MboxSink", "Sink", "TarSink"]

_IN_MEMORY_BYTES = 1024 * 1024


class Sink(ABC):
    """Where messages are written to. Closed by a `with` block; what an exception cuts off leaves no half a file."""

    def has(self, record: MessageMetadata) -> bool:  # noqa: ARG002 -- for overriders
        """Tell whether the message is there already, as it is."""
        return False

    @abstractmethod
    def write(self, record: MessageMetadata, payload: BinaryIO) -> None:
        """Write a message.

        :raises OSError: it can't be written
        """

    @abstractmethod
    def sync(self) -> None:
        """Make what was written survive a power cut; of one file that is when it's closed."""

    @abstractmethod
    def close(self) -> None:
        """End what was written."""

    @abstractmethod
    def abandon(self) -> None:
        """Throw away what isn't whole."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class _Folders(Sink):
    """Files of their own for each message: an export that was cut off goes on where it was."""

    def __init__(self, payloads: Path, documents: Path) -> None:
        self._folders = {payloads, documents}
        for folder in (payloads, documents):
            make_directory(folder, 0o777)
        self._documents = documents

    @abstractmethod
    def _payload_path(self, record: MessageMetadata) -> Path: ...

    def _document_path(self, record: MessageMetadata) -> Path:
        return self._documents / f"{record.id}{DOCUMENT_SUFFIX}"

    def has(self, record: MessageMetadata) -> bool:
        path = self._document_path(record)
        try:
            found = document_beside(path, record.id)
        except InvalidMetadataError:
            return False
        if found is None or not self._payload_path(record).is_file():
            return False
        if not record.checksum:
            record = replace(record, size=found.size, checksum=found.checksum)
        return to_document(found) == to_document(record)

    def write(self, record: MessageMetadata, payload: BinaryIO) -> None:
        seen = _write(self._payload_path(record), payload)
        _write(self._document_path(record), io.BytesIO(f"{to_document(_vouched(record, seen))}\n".encode()))

    def sync(self) -> None:
        for folder in self._folders:
            _sync_folder(folder)

    def close(self) -> None:
        self.sync()

    def abandon(self) -> None:
        self.sync()


class FolderSink(_Folders):
    """A folder with `<id>.data` and `<id>.json` for each message."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__(folder, folder)

    def _payload_path(self, record: MessageMetadata) -> Path:
        return self._folder / f"{record.id}{DATA_SUFFIX}"


class MaildirSink(_Folders):
    """A Maildir, in which each message is new; the documents are in a folder that mail programs don't look at."""

    def __init__(self, folder: Path) -> None:
        self._new = folder / "new"
        super().__init__(self._new, folder / DOCUMENTS)
        for part in ("cur", "tmp"):
            (folder / part).mkdir(exist_ok=True)

    def _payload_path(self, record: MessageMetadata) -> Path:
        return self._new / record.id


class _OneFile(Sink):
    """A file that gets its name when it's whole."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            msg = f"{path} is there already; remove it, or name another"
            raise InvalidOptionError(msg)
        make_directory(path.parent, 0o777)
        self._path = path
        self._temporary = path.with_name(f".tmp.{uuid4().hex}")
        self._file = self._temporary.open("xb")

    def sync(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._path)
        _sync_folder(self._path.parent)

    def abandon(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class _Lines(_OneFile):
    """Documents beside a mailbox."""

    def write(self, record: MessageMetadata, payload: BinaryIO) -> None:
        self._file.write(payload.read() + f" {to_document(record)}\n".encode())


class MboxSink(_OneFile):
    """A mailbox, with the documents in `<mailbox>.jsonl`, one a line, each after the place where its message begins."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._lines = _Lines(path.with_name(f"{path.name}.jsonl"))
        except BaseException:
            super().abandon()
            raise

    def write(self, record: MessageMetadata, payload: BinaryIO) -> None:
        whole, seen = _whole(payload)
        with whole:
            start = self._file.tell()
            self._file.write(f"From {_sender(record)} {record.created.astimezone(UTC):%a %b %d %H:%M:%S %Y}\n".encode())
            last = b"\n"
            for line in quoted(iter(partial(whole.readline, CHUNK_BYTES), b"")):
                self._file.write(line)
                last = line[-1:]
            self._file.write(b"\n" if last == b"\n" else b"\n\n")
        self._lines.write(_vouched(record, seen), io.BytesIO(str(start).encode()))

    def close(self) -> None:
        self._lines.close()
        super().close()

    def abandon(self) -> None:
        self._lines.abandon()
        super().abandon()


class TarSink(_OneFile):
    """A tar archive with `<id>.json` and `<id>.data` for each message; compressed if its name says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        compressed = path.name.endswith((".tar.gz", ".tgz"))
        self._tar = tarfile.open(  # noqa: SIM115 -- closed by close() or abandon()
            fileobj=self._file, mode="w|gz" if compressed else "w|"
        )

    def write(self, record: MessageMetadata, payload: BinaryIO) -> None:
        whole, seen = _whole(payload)
        with whole:
            document = f"{to_document(_vouched(record, seen))}\n".encode()
            self._add(f"{record.id}{DOCUMENT_SUFFIX}", record, io.BytesIO(document), len(document))
            self._add(f"{record.id}{DATA_SUFFIX}", record, whole, seen.size)

    def _add(self, name: str, record: MessageMetadata, content: BinaryIO, size: int) -> None:
        content.seek(0)
        member = tarfile.TarInfo(name)
        member.size = size
        member.mode = 0o600
        member.mtime = max(0, int(record.created.timestamp()))
        self._tar.addfile(member, content)

    def close(self) -> None:
        self._tar.close()
        super().close()

    def abandon(self) -> None:
        with suppress(OSError):
            self._tar.close()
        super().abandon()


def _whole(payload: BinaryIO) -> tuple[BinaryIO, Fingerprint]:
    """Return a copy of a payload: one that turns out to be damaged leaves no half a message in an archive."""
    copy = cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES))  # noqa: SIM115 -- the caller closes it
    try:
        seen = _copied(payload, copy)
        copy.seek(0)
    except BaseException:
        copy.close()
        raise
    return copy, seen


def _copied(source: BinaryIO, sink: BinaryIO) -> Fingerprint:
    seen = Fingerprint()
    while chunk := source.read(CHUNK_BYTES):
        sink.write(chunk)
        seen.update(chunk)
    return seen


def _vouched(record: MessageMetadata, seen: Fingerprint) -> MessageMetadata:
    """Return the record with what its payload is: an encrypted one's, or an older system's, doesn't tell."""
    return replace(record, size=seen.size, checksum=seen.checksum)


def _sender(record: MessageMetadata) -> str:
    sender = record.headers.get("mail-from", "").strip().strip("<>")
    return sender if re.fullmatch(r"[!-~]+", sender) else "MAILER-DAEMON"


def _write(path: Path, content: BinaryIO) -> Fingerprint:
    """Write a file, whole and synced, or none."""
    temporary = path.with_name(f".tmp.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            seen = _copied(content, cast("BinaryIO", file))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return seen


def _sync_folder(folder: Path) -> None:
    directory = Directory(folder)
    try:
        directory.sync()
    finally:
        directory.close()
