"""What an import finds: messages, and what it leaves aside; and files that are opened with care."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from retryspool.data import Payload
from retryspool.errors import InvalidMessageIdError, InvalidMetadataError
from retryspool.ids import validate_message_id
from retryspool.model import MessageMetadata
from retryspool.transfer.documents import MAX_DOCUMENT_BYTES, from_document

__all__ = ["NAME_HEADER", "Aside", "Found", "document_beside", "files_in", "id_of", "open_file", "plain"]

NAME_HEADER = "imported-name"
"""The header that keeps a file's name where that is no message id."""


@dataclass(frozen=True, slots=True)
class Found:
    """A message to import."""

    record: MessageMetadata
    open: Callable[[], AbstractContextManager[Payload]]
    """Opens its payload."""
    exact: bool = False
    """The record is a document's: its size and checksum are the payload's."""


@dataclass(frozen=True, slots=True)
class Aside:
    """Something that is left aside."""

    name: str
    reason: str


def id_of(name: str, *, unique: bool = True) -> str:
    """Return a message id for a file's name: the name itself if it's one, else what is always the same for it.

    :param unique: no other file of the import has this name
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    last = name.rpartition("/")[2]
    try:
        return validate_message_id(last if unique else f"{last}-{digest[:12]}")
    except InvalidMessageIdError:
        return f"file-{digest[:32]}"


def plain(template: MessageMetadata, message_id: str, name: str) -> MessageMetadata:
    """Return the record of a message that comes without one: the template's, with an id and the file's name."""
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "")
    headers = dict(template.headers) if message_id == name else {**template.headers, NAME_HEADER: shown}
    return replace(template, id=message_id, headers=headers)


@contextmanager
def open_file(path: Path) -> Generator[BinaryIO]:
    """Open a regular file for reading: no link is followed, no pipe or device waited for.

    :raises OSError: it's something else, or can't be read
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            msg = f"{path}: no regular file"
            raise OSError(msg)
        yield file


def files_in(folder: Path, *, deep: bool) -> Iterator[Path | Aside]:
    """Yield a folder's files, in no particular order; hidden ones are passed over, links and devices left aside."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                yield Aside(entry.path, "a symbolic link")
            elif entry.is_dir(follow_symlinks=False):
                if deep:
                    yield from files_in(Path(entry.path), deep=True)
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
            else:
                yield Aside(entry.path, "no regular file")


def document_beside(path: Path, message_id: str) -> MessageMetadata | None:
    """Return the record in a document; None if there's no such file.

    :raises InvalidMetadataError: it's none, or another message's
    """
    try:
        with open_file(path) as file:
            record = from_document(file.read(MAX_DOCUMENT_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidMetadataError(str(error)) from error
    if record.id != message_id:
        msg = f"{path}: the document of message {record.id!r}, where that of {message_id!r} should be"
        raise InvalidMetadataError(msg)
    return record
