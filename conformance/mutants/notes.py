"""Mutants that keep notes wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from mutants.kinds import mutant
from retryspool.errors import InvalidOptionError
from retryspool.memory import MemoryMeta
from retryspool.meta import check_note
from retryspool.model import MessageMetadata
from retryspool_fs_meta import FsMetaBackend
from retryspool_fs_meta.notes import Notes

CHUNK = 4096


@mutant("META-65")
class NotesEndWithTheirInstance(MemoryMeta):
    """Notes are kept by the instance beside the store, and are gone when that is opened again."""

    def plant(self) -> None:
        with self._store() as store:
            store.notes.clear()


@mutant("META-62")
class NotesOfAllNamespaces(MemoryMeta):
    """The place of the notes doesn't have the namespace in its name."""

    everybodys: ClassVar[dict[str, str]] = {}

    def plant(self) -> None:
        self._shared.notes = self.everybodys


@mutant("META-62")
class NotesAreMessages(MemoryMeta):
    """A note is a record under a name of its own, and is found like one."""

    def set_note(self, name: str, text: str | None) -> None:
        super().set_note(name, text)
        with self._store() as store:
            store.put(MessageMetadata(name, version=1))


@mutant("META-61")
class EmptyNotesAreNone(MemoryMeta):
    """An empty text is taken for a removal."""

    def set_note(self, name: str, text: str | None) -> None:
        super().set_note(name, text or None)


@mutant("META-61")
class TheFirstNoteStands(MemoryMeta):
    """A note that is there isn't replaced."""

    def set_note(self, name: str, text: str | None) -> None:
        check_note(name, text)
        with self._store() as store:
            if text is None or name not in store.notes:
                super().set_note(name, text)


@mutant("META-61")
class NotesAreWrittenInPlace(FsMetaBackend):
    """The file of a note is written over, piece by piece, while others read it."""

    def plant(self) -> None:
        self._notes.__class__ = _InPlace


class _InPlace(Notes):
    def set(self, name: str, text: str | None) -> None:
        if text is None:
            super().set(name, None)
            return
        raw = text.encode() + b"\n"
        fd = os.open(self._path(name), os.O_WRONLY | os.O_CREAT)
        for at in range(0, len(raw), CHUNK):
            os.write(fd, raw[at : at + CHUNK])
        os.ftruncate(fd, len(raw))
        os.fsync(fd)
        os.close(fd)
        self._durability.sync_names(self._directory)


@mutant("META-63")
class NotesTakeAnyName(MemoryMeta):
    """Only the text is looked at: a name may be a path."""

    def set_note(self, name: str, text: str | None) -> None:
        try:
            super().set_note(name, text)
        except InvalidOptionError:
            check_note("a", text)


@mutant("META-63")
class NotesGoOnWhenClosed(MemoryMeta):
    """A closed backend still reads notes."""

    def get_notes(self) -> Mapping[str, str]:
        with self._shared.changed:
            return dict(self._shared.notes)


@mutant("META-64")
class NotesWakeNobody(MemoryMeta):
    """A note that changes is no news to who waits."""

    def set_note(self, name: str, text: str | None) -> None:
        with self._store() as store:
            changes = store.changes
            check_note(name, text)
            if text is None:
                store.notes.pop(name, None)
            else:
                store.notes[name] = text
            store.changes = changes


@mutant("META-65")
class NotesAreNotSynced(FsMetaBackend):
    """A note is acknowledged before it's on the disk."""

    def plant(self) -> None:
        self._notes.__class__ = _Unsynced


class _Unsynced(Notes):
    def set(self, name: str, text: str | None) -> None:
        durability = self._durability
        self._durability = _NoDurability()
        try:
            super().set(name, text)
        finally:
            self._durability = durability


class _NoDurability:
    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None
