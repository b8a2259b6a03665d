"""Mailboxes in one file: read, and written, as "mboxrd".

Messages are separated by lines that begin with `From `, each after an empty line. In a message, a line that begins so,
after any number of `>`, gets one more `>`, which reading takes away.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from retryspool.data import CHUNK_BYTES
from retryspool.errors import InvalidMetadataError, InvalidOptionError
from retryspool.model import MessageMetadata
from retryspool.transfer.documents import MAX_DOCUMENT_BYTES, from_document
from retryspool.transfer.found import Aside, Found, open_file

__all__ = ["quoted", "read_mbox"]

_SEPARATOR = b"From "
_QUOTED = re.compile(rb">+From ")
_TO_QUOTE = re.compile(rb">*From ")
_EMPTY = (b"\n", b"\r\n")
_NOBODY = {"-", "MAILER-DAEMON"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a message lies."""

    start: int
    """Of the line that separates it from the last one."""
    body: int
    end: int
    sender: str
    digest: str


def quoted(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines, or parts of lines that are very long, quoted."""
    at_start = True
    for line in lines:
        yield b">" + line if at_start and _TO_QUOTE.match(line) else line
        at_start = line.endswith(b"\n")


def read_mbox(path: Path, template: MessageMetadata) -> Iterator[Found | Aside]:
    """Yield a mailbox's messages; those of an export, with `<mailbox>.jsonl` beside it, as they were.

    The id of another is made of its content, so that one that is there twice is one message.

    :raises InvalidOptionError: it isn't a mailbox
    """
    with open_file(path) as file, _documents(path.with_name(f"{path.name}.jsonl")) as documents:
        expected = next(documents, None)
        for place in _places(file, path):
            if expected is not None and expected[0] == place.start:
                found = expected[1]
                expected = next(documents, None)
                if isinstance(found, Aside):
                    yield found
                else:
                    yield Found(found, partial(_opened, path, place, found.size), exact=True)
            else:
                yield Found(_plain(template, place), partial(_opened, path, place, None))


def _plain(template: MessageMetadata, place: _Place) -> MessageMetadata:
    headers = dict(template.headers)
    if place.sender not in _NOBODY:
        headers.setdefault("mail-from", place.sender)
    return replace(template, id=f"mbox-{place.digest}", headers=headers)


def _places(file: BinaryIO, path: Path) -> Iterator[_Place]:
    """Yield where the messages lie, by one pass over the file."""
    start = body = 0
    position = 0
    sender = "-"
    digest = hashlib.sha256()
    held = b""  # an empty line: the separator's, or the message's
    at_start = True
    for line in iter(partial(file.readline, CHUNK_BYTES), b""):
        if at_start and line.startswith(_SEPARATOR) and (position == 0 or held):
            if position:
                yield _Place(start, body, position - len(held), sender, digest.hexdigest()[:32])
            start, body = position, position + len(line)
            sender = (line[len(_SEPARATOR) :].split() or [b"-"])[0].decode("utf-8", "replace")
            digest = hashlib.sha256(line)
            held = b""
        elif position == 0:
            msg = f"{path}: no mailbox: it doesn't begin with 'From '"
            raise InvalidOptionError(msg)
        else:
            digest.update(held)
            held = line if at_start and line in _EMPTY else b""
            digest.update(b"" if held else line)
        at_start = line.endswith(b"\n")
        position += len(line)
    if position:
        yield _Place(start, body, position - len(held), sender, digest.hexdigest()[:32])


@contextmanager
def _opened(path: Path, place: _Place, size: int | None) -> Generator[Iterator[bytes]]:
    with open_file(path) as file:
        yield _content(file, place, size)


def _content(file: BinaryIO, place: _Place, size: int | None) -> Iterator[bytes]:
    """Yield a message's content, without its quotes.

    :param size: how long it is: without it, up to the line that ends it
    """
    file.seek(place.body)
    left = place.end - place.body
    wanted = left if size is None else size
    at_start = True
    while left > 0 and wanted > 0:
        line = file.readline(min(CHUNK_BYTES, left))
        if not line:
            return
        left -= len(line)
        content = line[1:] if at_start and _QUOTED.match(line) else line
        at_start = line.endswith(b"\n")
        yield content[:wanted]
        wanted -= len(content)


@contextmanager
def _documents(path: Path) -> Generator[Iterator[tuple[int, MessageMetadata | Aside]]]:
    try:
        with open_file(path) as file:
            yield _parsed(file, path)
    except FileNotFoundError:
        yield iter(())


def _parsed(file: BinaryIO, path: Path) -> Iterator[tuple[int, MessageMetadata | Aside]]:
    for line in iter(partial(file.readline, MAX_DOCUMENT_BYTES), b""):
        offset, _, text = line.partition(b" ")
        if not offset.isdigit():
            msg = f"{path}: not what an export writes beside a mailbox"
            raise InvalidOptionError(msg)
        try:
            yield int(offset), from_document(text)
        except InvalidMetadataError as error:
            yield int(offset), Aside(f"{path.name}: {offset.decode()}", str(error))
