"""Postfix's queue files: a mail and its envelope as a sequence of records.

A record is a byte for its type, its length in groups of seven bits, the lowest first, and so many bytes. A pointer says
where the next record is, so that Postfix can change a mail that lies in the queue. See Postfix's `rec_type.h`.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from retryspool.model import ZERO_TIME, MessageMetadata, State, replace, utc_now
from retryspool.transfer.found import Aside, Found, open_file

__all__ = ["is_postfix_queue", "read_postfix_file"]

_FIRST = (b"C", b"T")
_TIME, _SENDER, _RECIPIENT, _DELIVERED = b"T", b"S", b"R", b"D"
_MESSAGE, _EXTRACTED, _END, _POINTER = b"M", b"X", b"E", b"p"
_LINE, _PART = b"N", b"L"
_MOST_JUMPS = 10_000
"""A pointer may point back; more of them than any mail has is a file that never ends."""
_MOST_RECORD_BYTES = 1024 * 1024


class _DamagedError(OSError):
    """The file isn't what Postfix writes."""


@dataclass(slots=True)
class _Envelope:
    sender: str | None = None
    recipients: list[str] = field(default_factory=list[str])
    delivered: int = 0
    arrived: datetime = ZERO_TIME
    content: int = 0
    """Where the content begins."""


def is_postfix_queue(folder: Path) -> bool:
    """Tell whether a folder is a queue of Postfix's, by folders that nobody else has: `bounce/` holds logs then."""
    return (folder / "maildrop").is_dir() or (folder / "defer").is_dir()


def read_postfix_file(path: Path, record: MessageMetadata) -> Found | Aside | None:
    """Return the mail in a queue file, with its envelope as headers; None if it isn't such a file.

    Recipients that have it already are left out. A deferred one is due when it was there.
    """
    with open_file(path) as file:
        if file.read(1) not in _FIRST:
            return None
        try:
            envelope = _envelope(file)
        except (_DamagedError, ValueError, OverflowError):
            return None
        due = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    if not envelope.recipients:
        return Aside(str(path), "all its recipients have it already" if envelope.delivered else "it has no recipient")
    headers = {"mail-from": envelope.sender or "<>", "rcpt-to": ", ".join(envelope.recipients)}
    is_due_later = record.state is State.DEFERRED and due > utc_now()
    found = replace(
        record,
        headers={**record.headers, **headers},
        created=envelope.arrived,
        next_retry=due if is_due_later else record.next_retry,
    )
    return Found(found, partial(_opened, path, envelope.content))


def _envelope(file: BinaryIO) -> _Envelope:
    """Read all but the content.

    :raises _DamagedError: it isn't whole
    """
    envelope = _Envelope()
    for kind, value, after in _records(file, 0):
        if kind == _TIME and envelope.arrived == ZERO_TIME:
            envelope.arrived = datetime.fromtimestamp(int(value.split()[0]), UTC)
        elif kind == _SENDER:
            envelope.sender = _text(value)
        elif kind == _RECIPIENT:
            envelope.recipients.append(_text(value))
        elif kind == _DELIVERED:
            envelope.delivered += 1
        elif kind == _MESSAGE:
            envelope.content = after
    if not envelope.content or envelope.sender is None:
        raise _DamagedError("no envelope and no content")
    return envelope


@contextmanager
def _opened(path: Path, content: int) -> Generator[Iterator[bytes]]:
    with open_file(path) as file:
        yield _content(file, content)


def _content(file: BinaryIO, start: int) -> Iterator[bytes]:
    for kind, value, _ in _records(file, start):
        if kind == _EXTRACTED:
            return
        if kind == _LINE:
            yield value + b"\n"
        elif kind == _PART:
            yield value


def _records(file: BinaryIO, start: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield records: type, value, and where the next one is, up to the one that ends the file.

    :raises _DamagedError: the file ends before
    """
    file.seek(start)
    jumps = 0
    while True:
        kind = file.read(1)
        size = _length(file)
        value = file.read(size)
        if not kind or len(value) < size:
            raise _DamagedError("it ends in the middle")
        if kind == _POINTER and (target := int(value)) > 0:
            jumps += 1
            if jumps > _MOST_JUMPS:
                raise _DamagedError("its pointers go round in circles")
            file.seek(target)
            continue
        yield kind, value, file.tell()
        if kind == _END:
            return


def _length(file: BinaryIO) -> int:
    length = shift = 0
    while True:
        byte = file.read(1)
        if not byte:
            raise _DamagedError("it ends in the middle")
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if length > _MOST_RECORD_BYTES:
            raise _DamagedError("a record is longer than any")
        if not byte[0] & 0x80:
            return length


def _text(value: bytes) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "�", value.decode("utf-8", "replace"))
