"""Reading messages from a tar archive, in one pass: nothing in it is unpacked to where it says.

What it's compressed with is read by the libraries for that, and to the end: `tarfile` doesn't look at their checksums.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, Self, cast

from retryspool.errors import InvalidMetadataError, InvalidOptionError
from retryspool.model import MessageMetadata
from retryspool.transfer.documents import MAX_DOCUMENT_BYTES, from_document
from retryspool.transfer.folders import DATA_SUFFIX, DOCUMENT_SUFFIX
from retryspool.transfer.found import Aside, Found, id_of, open_file, plain

__all__ = ["read_tar"]

_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError)
_CHUNK_BYTES = 256 * 1024


def read_tar(path: Path, template: MessageMetadata) -> Iterator[Found | Aside]:
    """Yield an archive's files as messages, by their names; an export's, `<id>.json` before `<id>.data`, as they were.

    Each must be read before the next is asked for.

    :raises InvalidOptionError: it isn't an archive
    """
    begun = False
    with open_file(path) as file:
        try:
            for found in _members(_unpacked(file), template):
                begun = True
                yield found
        except _DAMAGE as error:
            if not begun:
                msg = f"{path}: no archive: {error}"
                raise InvalidOptionError(msg) from error
            yield Aside(str(path), f"the archive is damaged: {error}")


def _unpacked(file: BinaryIO) -> IO[bytes]:
    """Return an archive as it was before it was compressed."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start == b"\xfd7zXZ\0":
        return lzma.LZMAFile(file)
    return file


def _members(file: IO[bytes], template: MessageMetadata) -> Iterator[Found | Aside]:
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Member) as archive:
        document: MessageMetadata | None = None
        while (member := archive.next()) is not None:
            vars(archive)["members"].clear()  # it would remember all of a million
            content = archive.extractfile(member) if member.isreg() else None
            if member.isdir():
                continue
            if content is None:
                yield Aside(member.name, "a link" if member.islnk() or member.issym() else "no regular file")
            elif member.name.endswith(DOCUMENT_SUFFIX):
                document = _document(content)
                if document is None:
                    yield Aside(member.name, "not the document of a message")
            elif document is not None and member.name == f"{document.id}{DATA_SUFFIX}":
                yield Found(document, partial(_opened, content), exact=True)
            else:
                name = member.name.removeprefix("./")
                record = plain(template, id_of(name, unique="/" not in name), name)
                yield Found(record, partial(_opened, content))
    while file.read(_CHUNK_BYTES):  # the checksum comes at the very end
        pass


class _Member(tarfile.TarInfo):
    """A member of an archive that ends by its end mark alone: the library ends at any header that it can't read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"{error}, and no end mark before it") from error


def _document(content: IO[bytes]) -> MessageMetadata | None:
    try:
        return from_document(content.read(MAX_DOCUMENT_BYTES))
    except InvalidMetadataError:
        return None


@contextmanager
def _opened(content: IO[bytes]) -> Generator[BinaryIO]:
    try:
        yield cast("BinaryIO", content)
    except _DAMAGE as error:
        msg = f"the archive is damaged: {error}"
        raise OSError(msg) from error
