"""The directories that payloads lie in: made when they're needed, removed when they're empty, by any number at once.

Whoever gives a payload its name does so relative to the open directory, not by path. Once another has removed that
directory, no name can be made in it (`ENOENT`), so a writer finds out and makes a new one. And as long as it's open
here its inode number can't come again, so having synced its name once is enough.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Generator, Iterator

from retryspool.deadline import check_deadline
from retryspool.errors import BackendError, DataExistsError, DataNotFoundError
from retryspool.files import Directory, Durability
from retryspool_fs_data.layout import LOCKS_FOLDER, TEMPORARY_FOLDER, file_name_of, is_shard, message_id_of, shard_of
from retryspool_fs_data.temporary import TemporaryFile

__all__ = ["Shards"]

_MOST_OPEN = 256
_ATTEMPTS = 1000
"""How often a directory is made again that others have removed meanwhile."""
_TIDY_INTERVAL_S = 1.0
"""How often at most a shard is tried to be removed: one that is emptied and filled all the time would else cost each
message the making and syncing of a directory."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO that somebody put there doesn't block
_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Shards:
    """All shards of one base directory."""

    def __init__(self, base: str, *, dir_mode: int, durability: Durability) -> None:
        self._base = Directory(base)
        self._dir_mode = dir_mode
        self._durability = durability
        self._open: dict[str, Directory] = {}
        """Those whose own names are as durable as the mode wants them."""
        self._lock = threading.Lock()
        self._tidied: dict[str, float] = {}

    def put(self, file: TemporaryFile, message_id: str, *, if_absent: bool) -> Directory:
        """Give a temporary file its name as a payload; return the directory that is to be synced.

        :raises DataExistsError: the name is taken, and `if_absent`
        """
        shard_name, name = shard_of(message_id), file_name_of(message_id)
        for _ in range(_ATTEMPTS):
            try:
                shard = self._open.get(shard_name) or self._make(shard_name)
                if if_absent:
                    file.link_to(shard, name)
                else:
                    file.rename_to(shard, name)
            except FileExistsError:
                raise DataExistsError(message_id) from None
            except FileNotFoundError:
                file.check()  # raises if it's this that has gone, and not the shard
                with self._lock:
                    self._open.pop(shard_name, None)
                check_deadline()
            else:
                return shard
        raise BackendError(f"the directory {shard_name!r} in {self._base.path!r} is removed as often as it is made")

    def _make(self, name: str) -> Directory:
        path = f"{self._base.path}/{name}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, self._dir_mode)
        shard = Directory(path, follow_symlinks=False)
        # Whoever made it: they may not have come to this yet, and what will be promised is in it.
        self._durability.sync_names(self._base)
        with self._lock:
            if len(self._open) >= _MOST_OPEN:
                del self._open[next(iter(self._open))]
            self._open[name] = shard
        return shard

    def open_payload(self, message_id: str) -> tuple[int, int]:
        """Open a payload for reading; return its descriptor and its size in bytes.

        :raises DataNotFoundError: there's none
        """
        try:
            with self._walking(shard_of(message_id)) as shard_fd:
                fd = os.open(file_name_of(message_id), _READ, dir_fd=shard_fd)
        except FileNotFoundError:
            raise DataNotFoundError(message_id) from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise BackendError(
                f"the payload of message {message_id!r} is not a regular file; look at {self._base.path!r}"
            )
        return fd, status.st_size

    def remove(self, message_id: str) -> None:
        """Remove a payload's name, if it's there."""
        shard_name = shard_of(message_id)
        with contextlib.suppress(FileNotFoundError):
            with self._walking(shard_name) as shard_fd:
                os.unlink(file_name_of(message_id), dir_fd=shard_fd)
            now = time.monotonic()
            if now - self._tidied.get(shard_name, -_TIDY_INTERVAL_S) >= _TIDY_INTERVAL_S:
                self._tidied[shard_name] = now
                self._remove_if_empty(shard_name)

    @contextlib.contextmanager
    def _walking(self, name: str) -> Generator[int]:
        fd = os.open(f"{self._base.path}/{name}", _WALK)
        try:
            yield fd
        finally:
            with contextlib.suppress(OSError):  # nothing is written through it that could be lost
                os.close(fd)

    def _remove_if_empty(self, name: str) -> None:
        with contextlib.suppress(OSError):  # not empty, not there, or not to be removed: all the same to us
            os.rmdir(f"{self._base.path}/{name}")

    def scan(self) -> Iterator[tuple[str | None, os.DirEntry[str]]]:
        """Yield every entry, with the id of the message whose payload it is, None where it isn't one."""
        with os.scandir(self._base.path) as folders:
            for folder in folders:
                if is_shard(folder.name) and folder.is_dir(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError), os.scandir(folder.path) as files:
                        for file in files:
                            is_file = file.is_file(follow_symlinks=False)
                            yield (message_id_of(folder.name, file.name) if is_file else None), file
                elif folder.name not in {TEMPORARY_FOLDER, LOCKS_FOLDER}:
                    yield None, folder

    def close(self) -> None:
        """Remove the directories that were emptied, and let go of the others."""
        for name in list(self._tidied):
            self._remove_if_empty(name)
        with self._lock:
            self._open.clear()
