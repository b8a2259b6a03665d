"""Directories whose names survive, and the few file operations that are easy to get wrong."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from retryspool.errors import BackendError

__all__ = [
    "Directory",
    "make_directory",
    "network_file_system",
    "refuse_case_folding",
    "remove_folders",
    "start_writeback",
    "sync_above",
    "unlink_if_there",
    "write_all",
]

_NETWORK_TYPES = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3"}
)


class Directory:
    """An open directory. Its `path` ends without a slash; `sync()` makes the names in it survive.

    Closed when nobody refers to it any more: so no thread is left with a descriptor that means another file by now.

    :param follow_symlinks: False refuses a path that is a symbolic link itself
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: str | Path, *, follow_symlinks: bool = True) -> None:
        self._fd = -1
        self.path = str(path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._fd = os.open(self.path, flags if follow_symlinks else flags | os.O_NOFOLLOW)

    def __repr__(self) -> str:
        return f"Directory({self.path!r})"

    def __del__(self) -> None:
        self.close()

    @property
    def fd(self) -> int:
        """Its descriptor, for the calls that take a `dir_fd`; -1 once it's closed."""
        return self._fd

    def sync(self) -> None:
        """Return when every create, rename and unlink in it until now survives a power cut."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close it; may be called again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # nothing is written through it that could be lost
                os.close(fd)


def make_directory(path: str | Path, mode: int = 0o755, *, sync: bool = True) -> None:
    """Create a directory, and those above it, each of which survives a power cut when this returns.

    :param sync: False leaves that to the system
    """
    path = Path(path)
    missing: list[Path] = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        try:
            directory.mkdir(mode)
        except FileExistsError:
            if not directory.is_dir():  # else somebody else makes the same one
                raise
        if sync:
            parent = Directory(directory.parent)
            try:
                parent.sync()
            finally:
                parent.close()


def sync_above(path: str | Path) -> None:
    """Make a directory's own name survive, and those above it, whoever made them: up to its file system's root.

    Ends below one that this user may not read, and so can't sync.
    """
    path = Path(path).absolute()
    device = path.stat().st_dev
    for above in path.parents:
        if above.stat().st_dev != device:
            break
        try:
            parent = Directory(above)
        except PermissionError:
            break
        try:
            parent.sync()
        finally:
            parent.close()


def refuse_case_folding(folder: str) -> None:
    """Do nothing where names tell upper from lower case.

    :param folder: a folder that is there, with a lower-case letter in its own name
    :raises BackendError: its file system takes both for the same, and so the messages 'A' and 'a' for one
    """
    parent, name = os.path.split(folder)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samefile(folder, f"{parent}/{name.upper()}"):
            raise BackendError(
                f"the file system of {parent!r} takes upper and lower case for the same, so that the messages "
                "'A' and 'a' would overwrite each other; choose a folder on one that doesn't"
            )


def start_writeback(fd: int) -> None:
    """Let the system begin to write a file to the disk, so that a sync of it, or of many, has little left to wait for.

    That's what Linux does when it's told that nobody will read a file; with its blocks allocated, the next commit of
    the file system's journal holds it, whoever asks for that.
    """
    with contextlib.suppress(OSError):  # it's a hint
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`: a short write, as on a disk that is filling up, is continued until it's an error."""
    written = os.write(fd, data)
    if written != len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def unlink_if_there(path: str) -> bool:
    """Remove a name; tell whether it was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def network_file_system(path: str | Path) -> str | None:
    """Return the type of the network file system that `path` lies on, None on a local one or where it can't be told."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    real = Path(path).resolve()
    best, best_type = -1, ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        mount_point = Path(fields.split(" ")[4].replace("\\040", " "))
        depth = len(mount_point.parts)
        if depth >= best and real.is_relative_to(mount_point):
            best, best_type = depth, rest.split(" ")[0]
    return best_type if best_type in _NETWORK_TYPES else None


def remove_folders(base: str, names: Iterable[str]) -> None:
    """Remove folders and the files in them, and the one around them if it's empty then. None need be there.

    A folder within one of them is another store's, whose namespace has that name; only a hidden folder goes with all.
    """
    for name in names:
        folder = f"{base}/{name}"
        with contextlib.suppress(FileNotFoundError):
            if name.startswith("."):
                shutil.rmtree(folder)
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.path)
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    with contextlib.suppress(OSError):
        os.rmdir(base)
