"""What a local disk may hold after a power cut: built from what a store synced, not from what it wrote.

A recorder in a process of its own looks at the store's folder whenever something is synced, and whenever a name is
about to change. What was synced is what a disk must keep; anything else it may keep or not. So it builds, for each such
moment, the extremes of what may be found there afterwards:

- *synced only*: no content and no name that wasn't synced;
- *names first*: all names as they are now, but only the content that was synced;
- *content first*: all content, but only the names that were synced;
- *everything*: as after a kill.

A rename from one folder to another is both or neither, as on every file system with a journal: a sync of either folder
brings it to the disk. It sees `os.fsync` and `os.fdatasync` called from Python; of a store that syncs otherwise it can
tell nothing.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

__all__ = ["Image", "Recorded", "Recorder", "lay_out", "record"]

Then = TypeVar("Then")
"""What a step of a workload made of a message."""

Tree = tuple[tuple[str, bytes | None], ...]
"""Paths below a folder, in order, each with a file's content, or None for a folder."""

_NAMES_CHANGE = frozenset({"os.rename", "os.remove", "os.rmdir", "os.link", "os.mkdir", "open"})
"""The audit events after which a name may be another."""


@dataclass(frozen=True, slots=True)
class _Rename:
    """A rename that no sync has brought to the disk yet."""

    inode: int
    origin: tuple[int, str]
    """The folder's inode, and the name in it."""
    target: tuple[int, str]


@dataclass(frozen=True, slots=True)
class Image:
    """What may lie in the folder after a cut."""

    step: int
    """The step of the workload that was under way: all before it were acknowledged."""
    kind: str
    tree: Tree


@dataclass(frozen=True, slots=True)
class Recorded(Generic[Then]):
    """A workload, cut at every moment."""

    made: list[dict[str, Then]]
    """What each step made, by message."""
    images: list[Image]

    def may_be(self, message_id: str, image: Image, absent: Then, is_kept: Callable[[Then], bool]) -> list[Then]:
        """Return what a message may be after this cut: what was acknowledged last, and whatever came after it.

        :param absent: what it is before the first step
        :param is_kept: tells whether what a step made must survive
        """
        found = [absent]
        for number, made in enumerate(self.made[: image.step + 1]):
            if message_id in made:
                then = made[message_id]
                found = [then] if number < image.step and is_kept(then) else [*found, then]
        return found


def record(factory: Any, folder: Path, steps: Sequence[Callable[[Any], dict[str, Then]]]) -> Recorded[Then]:
    """Do all steps on a store, and record them. It's run in a process of its own."""
    recorder = Recorder(folder)
    recorder.start()
    made: list[dict[str, Then]] = []
    with factory.create() as backend:
        for step in steps:
            made.append(step(backend))
            recorder.step += 1
            recorder.look()
    return Recorded(made, recorder.images)


class Recorder:
    """Builds images of a folder, of this process's work on it.

    :param folder: the store's; it need not be there yet, the one around it must
    """

    def __init__(self, folder: Path) -> None:
        self._root = str(folder.parent)
        self._name = folder.name
        self._content: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {}
        self._renames: list[_Rename] = []
        self._kept: list[int] = []
        self._lock = threading.RLock()
        self._recording = False
        self._seen: set[tuple[int, str, int]] = set()
        self.step = 0
        self.images: list[Image] = []

    def start(self) -> None:
        """Take what is there now for synced, and record from here on. There's no end: it's for a process of its own."""
        self._sync_all(self._root)
        for name in ("fsync", "fdatasync"):
            setattr(os, name, self._watching(getattr(os, name)))
        sys.addaudithook(self._audit)
        self._recording = True

    def _sync_all(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._synced(fd)
        finally:
            os.close(fd)
        for entry in os.scandir(path):
            if path != self._root or entry.name == self._name:
                if entry.is_dir(follow_symlinks=False):
                    self._sync_all(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    with open(entry.path, "rb") as file:
                        self._synced(file.fileno())

    def _watching(self, real: Callable[[Any], None]) -> Callable[[Any], None]:
        def sync(file: Any) -> None:
            real(file)
            self._synced(file if isinstance(file, int) else file.fileno())
            self.look()

        return sync

    def _synced(self, fd: int) -> None:
        with self._lock:
            status = os.fstat(fd)
            # A descriptor of our own keeps the inode from being given to another file.
            own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
            self._kept.append(own)
            if stat.S_ISDIR(status.st_mode):
                self._entries[status.st_ino] = _names(f"/proc/self/fd/{own}")
                self._complete_renames(status.st_ino)
            else:
                self._content[status.st_ino] = _read(own)

    def _complete_renames(self, folder: int) -> None:
        for rename in [each for each in self._renames if folder in {each.origin[0], each.target[0]}]:
            self._renames.remove(rename)
            (origin, old), (target, new) = rename.origin, rename.target
            if origin != folder:
                self._entries.setdefault(origin, {}).pop(old, None)
            if target != folder:
                self._entries.setdefault(target, {})[new] = rename.inode

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NAMES_CHANGE and self._recording and (event != "open" or _creates(arguments)):
            self.look()
            if event == "os.rename":
                self._note_rename(*arguments)

    def _note_rename(self, source: Any, target: Any, source_fd: int, target_fd: int) -> None:
        with self._lock:
            self._recording = False
            try:
                old, new = _absolute(source, source_fd), _absolute(target, target_fd)
                with suppress(FileNotFoundError):
                    origin = os.stat(os.path.dirname(old)).st_ino, os.path.basename(old)
                    goal = os.stat(os.path.dirname(new)).st_ino, os.path.basename(new)
                    self._renames.append(_Rename(os.stat(old, follow_symlinks=False).st_ino, origin, goal))
            finally:
                self._recording = True

    def look(self) -> None:
        """Build the images of this moment."""
        with self._lock:
            if not self._recording:
                return
            self._recording = False  # what it does itself is no event
            try:
                for kind, names, content in (
                    ("synced only", self._synced_names, self._synced_content),
                    ("names first", _names, self._synced_content),
                    ("content first", self._synced_names, _content),
                    ("everything", _names, _content),
                ):
                    tree = tuple(self._walk(self._root, "", names, content))
                    known = (self.step, kind, hash(tree))
                    if known not in self._seen:
                        self._seen.add(known)
                        self.images.append(Image(self.step, kind, tree))
            finally:
                self._recording = True

    def _synced_names(self, path: str) -> dict[str, int]:
        return self._entries.get(os.stat(path).st_ino, {})

    def _synced_content(self, path: str, inode: int) -> bytes:
        del path
        return self._content.get(inode, b"")

    def _walk(
        self,
        path: str,
        below: str,
        names: Callable[[str], dict[str, int]],
        content: Callable[[str, int], bytes],
    ) -> list[tuple[str, bytes | None]]:
        found: list[tuple[str, bytes | None]] = []
        by_inode = self._paths()
        for name, inode in sorted(names(path).items()):
            if not below and name != self._name:
                continue
            relative = f"{below}/{name}" if below else name
            real = by_inode.get(inode)
            if real is not None and os.path.isdir(real):
                found.append((relative, None))
                found += self._walk(real, relative, names, content)
            elif real is not None:
                with suppress(FileNotFoundError):
                    found.append((relative, content(real, inode)))
            else:  # its name is gone from the folder, but not yet from the disk
                found.append((relative, self._content.get(inode, b"")))
        return found

    def _paths(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for folder, folders, files in os.walk(f"{self._root}/{self._name}"):
            for name in (*folders, *files):
                with suppress(FileNotFoundError):
                    found[os.stat(f"{folder}/{name}", follow_symlinks=False).st_ino] = f"{folder}/{name}"
        with suppress(FileNotFoundError):
            found[os.stat(f"{self._root}/{self._name}").st_ino] = f"{self._root}/{self._name}"
        return found


def _absolute(path: Any, folder_fd: int) -> str:
    folder = os.readlink(f"/proc/self/fd/{folder_fd}") if folder_fd >= 0 else os.getcwd()
    return os.path.join(folder, os.fsdecode(path))


def _creates(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & os.O_CREAT)


def _names(path: str) -> dict[str, int]:
    with os.scandir(path) as entries:
        return {entry.name: entry.inode() for entry in entries}


def _content(path: str, inode: int) -> bytes:
    del inode
    return Path(path).read_bytes()


def _read(fd: int) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(fd, 1024 * 1024, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def lay_out(image: Image, folder: Path) -> None:
    """Make a folder what an image says."""
    root, _, _ = image.tree[0][0].partition("/") if image.tree else ("", "", "")
    for path, content in image.tree:
        target = folder / Path(path).relative_to(root)
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
