"""Files that aren't payloads yet.

They have no name at all (`O_TMPFILE`), so that a process that is killed leaves nothing behind, and there's one
directory less to change. Only what replaces a payload gets one for a moment, since a rename takes one; and on file
systems that can't do without (NFS, older overlays) each has one from the beginning. Names are in one folder: a sweep
looks in one place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading

from retryspool.files import Directory, Presence, refuse_case_folding, sweep_temporary_files, write_all
from retryspool_fs_data.layout import LOCKS_FOLDER, TEMPORARY_FOLDER

__all__ = ["TemporaryFile", "TemporaryFiles"]

_log = logging.getLogger(__name__)
_NAMED = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNNAMED = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC


class TemporaryFile:
    """One file on its way to be a payload, open for writing.

    :param name: what it's called in the folder of temporary files, at least while it replaces a payload
    :param is_named: whether it has that name from the beginning
    """

    __slots__ = ("_directory", "_is_named", "_name", "_pid", "fd")

    def __init__(self, directory: Directory, name: str, mode: int, *, is_named: bool) -> None:
        self._directory = directory
        self._name = name
        self._is_named = is_named
        self._pid = os.getpid()
        self.fd = os.open(name if is_named else ".", _NAMED if is_named else _UNNAMED, mode, dir_fd=directory.fd)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        write_all(self.fd, data)

    def check(self) -> None:
        """Do nothing while it's there.

        :raises FileNotFoundError: somebody has removed it, or the folder that it is in
        """
        os.stat(f"{self._directory.path}/{self._name}" if self._is_named else self._directory.path)

    def link_to(self, directory: Directory, name: str) -> None:
        """Give it a name in another directory; its own goes.

        :raises FileExistsError: the name is taken
        """
        if self._is_named:
            os.link(self._name, name, src_dir_fd=self._directory.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
            self._remove_name()
        else:  # linkat(2) tells of this way; a src_dir_fd, of no meaning here, makes Python call it and not link(2)
            os.link(f"/proc/self/fd/{self.fd}", name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)

    def rename_to(self, directory: Directory, name: str) -> None:
        """Give it a name in another directory, in place of whatever has that now."""
        if not self._is_named:
            try:
                self.link_to(directory, name)
            except FileExistsError:
                self.link_to(self._directory, self._name)
                self._is_named = True
            else:
                return
        os.rename(self._name, name, src_dir_fd=self._directory.fd, dst_dir_fd=directory.fd)

    def close(self) -> None:
        """Close it, if it's open. What that could report of unwritten content, a sync has reported before."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with contextlib.suppress(OSError):
                os.close(fd)

    def discard(self) -> None:
        """Close it, and remove what name it has here."""
        self.close()
        if self._is_named and os.getpid() == self._pid:  # in a fork's child it is the parent's, who may still write it
            self._remove_name()

    def _remove_name(self) -> None:
        with contextlib.suppress(OSError):  # what can't be removed is swept once this process has ended
            os.unlink(self._name, dir_fd=self._directory.fd)


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
        self._ready: tuple[Directory, Presence, bool] | None = None
        self._sweeper = threading.Thread(target=self._sweep, name="retryspool-fs-data-sweep", daemon=True)
        with contextlib.suppress(OSError):  # a full or read-only disk can be read; the first write says what it is
            self._make_folders()
        self._sweeper.start()

    def open(self) -> TemporaryFile:
        """Make a new file."""
        directory, presence, is_named = self._ready or self._prepare()
        return TemporaryFile(directory, presence.temporary_name(), self._file_mode, is_named=is_named)

    def _prepare(self) -> tuple[Directory, Presence, bool]:
        with self._lock:
            if self._ready is None:
                self._make_folders()
                Directory(self._locks_folder, follow_symlinks=False).close()  # else the sign would lie somewhere else
                directory = Directory(self._folder, follow_symlinks=False)
                presence = Presence(self._locks_folder)
                self._ready = directory, presence, not _can_do_without_names(directory, presence.temporary_name())
            return self._ready

    def _make_folders(self) -> None:
        for folder in (self._locks_folder, self._folder):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, self._dir_mode)
        refuse_case_folding(self._locks_folder)

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


def _can_do_without_names(directory: Directory, name: str) -> bool:
    """Tell whether a file can be made without a name, and be given one: by trying, as it takes `/proc` too."""
    try:
        file = TemporaryFile(directory, name, 0o600, is_named=False)
    except OSError:
        return False
    try:
        file.link_to(directory, name)
        os.unlink(name, dir_fd=directory.fd)
    except OSError:
        return False
    finally:
        file.close()
    return True
