"""Reading messages from a tar archive, in one pass: nothing in it is unpacked to where it says."""

from __future__ import annotations

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

_DAMAGE = (tarfile.TarError, EOFError, zlib.error)


def read_tar(path: Path, template: MessageMetadata) -> Iterator[Found | Aside]:
    """Yield an archive's files as messages, by their names; an export's, `<id>.json` before `<id>.data`, as they were.

    Each must be read before the next is asked for.

    :raises InvalidOptionError: it isn't an archive
    """
    begun = False
    try:
        with open_file(path) as file, tarfile.open(fileobj=file, mode="r|*", tarinfo=_Member) as archive:
            document: MessageMetadata | None = None
            while (member := archive.next()) is not None:
                begun = True
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
    except _DAMAGE as error:
        if not begun:
            msg = f"{path}: no archive: {error}"
            raise InvalidOptionError(msg) from error
        yield Aside(str(path), f"the archive is damaged: {error}")


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
