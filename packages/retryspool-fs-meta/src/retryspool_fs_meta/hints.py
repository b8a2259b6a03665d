"""The hint file: what each process tells the others it has changed.

A line names a message; who reads it looks the message up. Nothing depends on it but the time until a change is noticed:
it isn't synced, it is emptied when it has grown, and a rescan finds what a reader missed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Literal

from retryspool_fs_meta.watch import FileWatch

__all__ = ["Hints"]

_MAX_BYTES = 4 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_CHECK_EVERY = 256
_LINE = re.compile(rb"^([0-9a-f]+) ([A-Za-z0-9][A-Za-z0-9._=@+-]{0,199})$", re.MULTILINE)
"""A hint. What else may stand in the file, as half a line that a full disk has left, names no message and no path."""
News = Literal["none", "own", "others"]
_HEAD_BYTES = 18  # "#", 16 hexadecimal digits, a newline: what differs each time the file begins anew


class Hints:
    """The hint file of one spool, to write and to read.

    :param token: this instance's: it doesn't read what it wrote itself
    """

    def __init__(self, path: str, token: str, mode: int = 0o666) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        self._path = path
        self._token = token.encode()
        self._told = 0
        try:
            self._begin_anew_if(lambda size: not _HEAD_BYTES <= size <= _MAX_BYTES)
            self._head = os.pread(self._fd, _HEAD_BYTES, 0)
            self._offset = self._size = self._looked = os.fstat(self._fd).st_size
        except BaseException:
            self.close()
            raise

    def tell(self, message_ids: Iterable[str]) -> None:
        """Note that messages have changed."""
        token = self._token
        lines = b"".join([b"%s %s\n" % (token, message_id.encode()) for message_id in message_ids])
        if not lines:
            return
        with contextlib.suppress(OSError):  # a hint that can't be written is one that was missed
            os.write(self._fd, lines)
            self._told += 1
            if self._told % _CHECK_EVERY == 0:
                self._begin_anew_if(lambda size: size > _MAX_BYTES)

    def tell_of_notes(self) -> None:
        """Say that notes have changed: a line that names no message, and is news all the same."""
        with contextlib.suppress(OSError):
            os.write(self._fd, b"%s #notes\n" % self._token)

    def _begin_anew_if(self, condition: Callable[[int], bool]) -> None:
        if condition(os.fstat(self._fd).st_size):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # another does it right now, or is stopped there: the next time will do
                return
            try:
                if condition(os.fstat(self._fd).st_size):
                    os.ftruncate(self._fd, 0)
                    os.write(self._fd, b"#%s\n" % secrets.token_hex(8).encode())
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def watch(self) -> FileWatch:
        """Return what tells when something is written here.

        :raises OSError: the system can't tell
        """
        return FileWatch(self._path)

    def news(self) -> bool:
        """Tell, at the cost of one system call, whether there may be something to read."""
        try:
            return os.fstat(self._fd).st_size != self._size
        except OSError:  # closed under somebody who waits
            return True

    def news_to_a_waiter(self) -> News:
        """Tell whose is what was written since this was called the last time, and isn't read yet."""
        try:
            size = os.fstat(self._fd).st_size
            looked, self._looked = self._looked, size
            if size in {self._size, looked}:
                return "none"
            if size < looked or size - looked > _CHUNK_BYTES:  # it has begun anew, or it's too much to look at
                return "others"
            lines = os.pread(self._fd, size - looked, looked).splitlines()
        except OSError:  # closed under somebody who waits
            return "others"
        own = self._token + b" "
        return "own" if all(line.startswith(own) for line in lines) else "others"

    def read(self) -> tuple[set[str], bool]:
        """Return the messages that others have changed since the last time, and whether more may have been missed."""
        missed = False
        self._size = os.fstat(self._fd).st_size  # so that a line that was cut off is no news for ever
        if os.pread(self._fd, _HEAD_BYTES, 0) != self._head:
            self._head = os.pread(self._fd, _HEAD_BYTES, 0)
            self._offset = 0
            missed = True
        changed: set[str] = set()
        while chunk := os.pread(self._fd, _CHUNK_BYTES, self._offset):
            end = chunk.rfind(b"\n") + 1
            if not end and len(chunk) < _CHUNK_BYTES:
                break
            self._offset += end or len(chunk)
            for token, message_id in _LINE.findall(chunk, 0, end):
                if token != self._token:
                    changed.add(message_id.decode())
        return changed, missed

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
