"""Files that aren't payloads yet: in one folder, so that a sweep looks in one place, whatever the number of shards.

`O_TMPFILE` would leave nothing to sweep, but it isn't faster, isn't there on every file system, and can't replace: that
takes a rename, and so a name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading

from retryspool.errors import BackendError
from retryspool.files import Directory, Presence, sweep_temporary_files, write_all
from retryspool_fs_data.layout import LOCKS_FOLDER, TEMPORARY_FOLDER

__all__ = ["TemporaryFile", "TemporaryFiles"]

_log = logging.getLogger(__name__)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TemporaryFile:
    """One file on its way to be a payload, open for writing."""

    __slots__ = ("_pid", "directory", "fd", "name")

    def __init__(self, directory: Directory, name: str, mode: int) -> None:
        self.directory = directory
        self.name = name
        self._pid = os.getpid()
        self.fd = os.open(name, _NEW, mode, dir_fd=directory.fd)

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{self.directory.path}/{self.name}"

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        write_all(self.fd, data)

    def close(self) -> None:
        """Close it: the file system's last chance to say that it could not write."""
        fd, self.fd = self.fd, -1
        os.close(fd)

    def remove_name(self) -> None:
        """Remove the name that it has here, if it still has."""
        with contextlib.suppress(OSError):  # what can't be removed is swept once this process has ended
            os.unlink(self.name, dir_fd=self.directory.fd)

    def discard(self) -> None:
        """Close it, if it's open, and remove it."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):  # nobody wants what could not be written
                self.close()
        if os.getpid() == self._pid:  # in a fork's child it is the parent's, who may be writing it right now
            self.remove_name()


class TemporaryFiles:
    """The temporary files of one instance, and the sweeper of those that dead ones left behind.

    The sign that this instance lives is made for its first file, so that a full disk doesn't keep a spool from opening.
    """

    def __init__(self, base: str, *, dir_mode: int, file_mode: int | None) -> None:
        self._base = base
        self._folder = f"{base}/{TEMPORARY_FOLDER}"
        self._locks_folder = f"{base}/{LOCKS_FOLDER}"
        self._dir_mode = dir_mode
        self._file_mode = 0o666 if file_mode is None else file_mode
        self._lock = threading.Lock()
        self._ready: tuple[Directory, Presence] | None = None
        self._sweeper = threading.Thread(target=self._sweep, name="retryspool-fs-data-sweep", daemon=True)
        with contextlib.suppress(
            OSError
        ):  # a disk that is full or read-only can be read; the first write says what it is
            self._make_folders()
        self._sweeper.start()

    def open(self) -> TemporaryFile:
        """Make a new file."""
        directory, presence = self._ready or self._prepare()
        return TemporaryFile(directory, presence.temporary_name(), self._file_mode)

    def _prepare(self) -> tuple[Directory, Presence]:
        with self._lock:
            if self._ready is None:
                self._make_folders()
                Directory(self._locks_folder, follow_symlinks=False).close()  # else the sign would lie somewhere else
                directory = Directory(self._folder, follow_symlinks=False)
                self._ready = directory, Presence(self._locks_folder)
            return self._ready

    def _make_folders(self) -> None:
        for folder in (self._locks_folder, self._folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, self._dir_mode)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samefile(self._locks_folder, f"{self._base}/{LOCKS_FOLDER.upper()}"):
                raise BackendError(
                    f"the file system of {self._base!r} takes upper and lower case for the same, so that the messages "
                    "'A' and 'a' would overwrite each other; choose a folder on one that doesn't"
                )

    def _sweep(self) -> None:
        try:
            sweep_temporary_files(self._locks_folder, [self._folder])
        except OSError as error:  # it's tidying, and the next opening tries again
            _log.warning("temporary files in %s could not be swept: %s", self._folder, error)

    def close(self) -> None:
        """Withdraw the sign: what is still open is anybody's to sweep."""
        self._sweeper.join()
        with self._lock:
            if self._ready is not None:
                self._ready[1].close()
