"""The notes of a spool, a text file each: `cat` reads one, and a file that is moved there by hand is one.

A note ends with a newline that isn't part of it, so that one which was cut off shows.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from retryspool.errors import InvalidOptionError
from retryspool.files import TEMPORARY_PREFIX, Durability, Presence, unlink_if_there
from retryspool.meta import check_note
from retryspool.model import Finding, Severity
from retryspool_fs_meta.layout import NOTES_FOLDER, Layout
from retryspool_fs_meta.temporary import READ_FLAGS, TemporaryFiles

__all__ = ["Notes"]

_SUFFIX = ".txt"
_END = b"\n"
_MOST_BYTES = 64 * 1024 + len(_END)
_NOT_A_FILE = {errno.ELOOP, errno.ENXIO}
_NO_FILE = "it's no regular file"
_NO_END = "it doesn't end with a newline, as one that was cut off"


class _DamagedError(Exception):
    """What a file holds is no note; says why."""


class Notes:
    """The note files of one spool."""

    def __init__(self, layout: Layout, durability: Durability, presence: Presence, *, file_mode: int | None) -> None:
        self._directory = layout.notes
        self._durability = durability
        self._temporary = TemporaryFiles(durability, presence, file_mode=file_mode)

    def read(self) -> dict[str, str]:
        """Return all notes that can be read."""
        notes: dict[str, str] = {}
        for name in self._names():
            try:
                text = self._read(name)
            except _DamagedError:  # `findings` says so
                continue
            if text is not None:
                notes[name] = text
        return notes

    def set(self, name: str, text: str | None) -> None:
        """Write a note over what there may be, or remove it; in standard mode it's safe when this returns."""
        self._durability.check()
        path = self._path(name)
        if text is None:
            unlink_if_there(path)
        else:
            self._temporary.replace(self._directory, text.encode() + _END, path)
        self._durability.sync_names(self._directory)

    def findings(self) -> Iterator[Finding]:
        """Yield what is in the notes' folder and can't be read as a note."""
        for entry in self._entries():
            subject = f"{NOTES_FOLDER}/{entry}"
            if not entry.endswith(_SUFFIX):
                if not entry.startswith(TEMPORARY_PREFIX):
                    yield Finding(Severity.NOTICE, subject, f"is no note, which ends in {_SUFFIX}; it is left alone")
                continue
            try:
                self._read(entry[: -len(_SUFFIX)])
            except (_DamagedError, OSError) as error:
                text = f"is a note that can't be read, and counts for nothing ({error}); write it anew, or remove it"
                yield Finding(Severity.ERROR, subject, text)

    def _entries(self) -> list[str]:
        with os.scandir(self._directory.path) as entries:
            return [entry.name for entry in entries if not _is_a_stores(entry)]

    def _names(self) -> list[str]:
        return [entry[: -len(_SUFFIX)] for entry in self._entries() if entry.endswith(_SUFFIX)]

    def _path(self, name: str) -> str:
        return f"{self._directory.path}/{name}{_SUFFIX}"

    def _read(self, name: str) -> str | None:
        raw = _content(self._path(name))
        if raw is None:
            return None
        if not raw.endswith(_END):
            raise _DamagedError(_NO_END)
        try:
            text = raw[: -len(_END)].decode()
            check_note(name, text)
        except (UnicodeDecodeError, InvalidOptionError) as error:
            raise _DamagedError(str(error)) from error
        return text


def _is_a_stores(entry: os.DirEntry[str]) -> bool:
    """Tell whether it's a folder of the store whose namespace has the notes' folder's name."""
    return not entry.name.endswith(_SUFFIX) and entry.is_dir(follow_symlinks=False)


def _content(path: str) -> bytes | None:
    """Return as much of a file as may be a note's, and a byte more if there is one; None if there's no file."""
    try:
        fd = os.open(path, READ_FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _NOT_A_FILE:
            raise _DamagedError(_NO_FILE) from error
        raise
    try:
        raw = b""
        while chunk := os.read(fd, _MOST_BYTES + 1 - len(raw)):
            raw += chunk
    except (IsADirectoryError, BlockingIOError) as error:
        raise _DamagedError(_NO_FILE) from error
    finally:
        os.close(fd)
    return raw
