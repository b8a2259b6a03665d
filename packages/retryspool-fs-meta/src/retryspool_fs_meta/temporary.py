"""Files that are written under a temporary name, and get their own once they're whole."""

from __future__ import annotations

import logging
import os

from retryspool.files import Directory, Durability, Presence, unlink_if_there, write_all

__all__ = ["READ_FLAGS", "TemporaryFiles", "close_written"]

_log = logging.getLogger(__name__)

READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # of a pipe's name, no more than an error
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class TemporaryFiles:
    """The temporary files of one instance, which say that they are its own.

    :param file_mode: the permissions of what is written; by the umask if None
    """

    def __init__(self, durability: Durability, presence: Presence, *, file_mode: int | None) -> None:
        self._durability = durability
        self._presence = presence
        self._file_mode = 0o666 if file_mode is None else file_mode

    def write(self, directory: Directory, raw: bytes, *, sync: bool) -> tuple[int, str]:
        """Write one; return its descriptor and its path."""
        path = f"{directory.path}/{self._presence.temporary_name()}"
        fd = os.open(path, _NEW_FLAGS, self._file_mode)
        try:
            write_all(fd, raw)
            if sync:
                self._durability.sync_content(fd, outcome="none")
        except BaseException:
            os.close(fd)
            unlink_if_there(path)
            raise
        return fd, path

    def replace(self, directory: Directory, raw: bytes, path: str) -> None:
        """Write one, whose content is synced, over what there may be at `path`. Its name is for the caller to sync."""
        fd, temporary = self.write(directory, raw, sync=True)
        try:
            os.rename(temporary, path)
        except BaseException:
            unlink_if_there(temporary)
            raise
        finally:
            close_written(fd)


def close_written(fd: int) -> None:
    """Close a file that was written and has its name. What this could tell of its content, the sync has told."""
    try:
        os.close(fd)
    except OSError as error:
        _log.debug("closing a file that was written: %s", error)
