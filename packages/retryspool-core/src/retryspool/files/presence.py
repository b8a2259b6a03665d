"""Temporary files, told from those that dead processes left behind.

Each backend instance has a token and holds a lock on the file `live.<token>` for as long as it lives; its temporary
files are called `.tmp.<token>.<n>`. So anybody can tell a living owner from a dead one, by trying that lock: process
ids can't (they come again, and differ between containers that share a disk).
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import secrets
import time
from collections.abc import Iterable

from retryspool.files.directory import unlink_if_there

__all__ = ["TEMPORARY_PREFIX", "Presence", "sweep_temporary_files"]

TEMPORARY_PREFIX = ".tmp."
"""What every temporary file's name begins with, and no message's: ids begin with a letter or a digit."""

_LIVE_PREFIX = "live."
_OURS = re.compile(r"\.tmp\.([0-9a-f]{12})\.[0-9a-f]+")
_FOREIGN_AGE_S = 3600.0
"""How old a temporary file of nobody known (the Go system's, say) must be before it's swept, in seconds."""


class Presence:
    """The sign that an instance lives: a locked file in the folder of locks."""

    def __init__(self, locks_folder: str) -> None:
        while True:
            self.token = secrets.token_hex(6)
            self._path = f"{locks_folder}/{_LIVE_PREFIX}{self.token}"
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken = os.fstat(self._fd).st_nlink > 0  # else a sweeper came between the last two calls
            except BlockingIOError:  # or is here now, and perhaps stopped: it's not waited for
                unlink_if_there(self._path)
                taken = False
            except BaseException:
                self.close()
                raise
            if taken:
                break
            os.close(self._fd)
        self._numbers = itertools.count()

    def temporary_name(self) -> str:
        """Return a new name for a temporary file of this instance, without a folder."""
        return f"{TEMPORARY_PREFIX}{self.token}.{next(self._numbers):x}"

    def close(self) -> None:
        """Withdraw the sign; may be called again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                unlink_if_there(self._path)
            finally:
                os.close(fd)


def sweep_temporary_files(locks_folder: str, folders: Iterable[str]) -> int:
    """Remove the temporary files that no living instance owns; return how many.

    :param folders: where to look, not into their sub-folders
    """
    alive: dict[str, bool] = {}
    removed = 0
    for folder in folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                ours = _OURS.fullmatch(entry.name)
                if ours is not None:
                    token = ours[1]
                    if token not in alive:
                        alive[token] = _is_alive(f"{locks_folder}/{_LIVE_PREFIX}{token}")
                    if not alive[token]:
                        removed += _remove(entry.path)
                elif entry.name.startswith(TEMPORARY_PREFIX) and _age_s(entry) > _FOREIGN_AGE_S:
                    removed += _remove(entry.path)
    with contextlib.suppress(FileNotFoundError), os.scandir(locks_folder) as entries:
        for entry in entries:
            if entry.name.startswith(_LIVE_PREFIX):
                _is_alive(entry.path, unlink_dead=True)
    return removed


def _remove(path: str) -> bool:
    try:
        return unlink_if_there(path)
    except OSError:  # a folder, or another user's: it stays, and keeps nothing else from being swept
        return False


def _age_s(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def _is_alive(sign: str, *, unlink_dead: bool = False) -> bool:
    try:
        fd = os.open(sign, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's, of whom nothing can be told
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if unlink_dead:  # while the lock is held: who made it just now sees that it's gone, and makes another
            unlink_if_there(sign)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
