"""Notes as files: what people may read and write by hand, and what is wrong with one is said and harms no other."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from retryspool.errors import BackendUnavailableError
from retryspool.model import MessageMetadata, Severity, State
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory


def test_a_note_is_a_file_that_cat_shows(backend: FsMetaBackend, base: Path) -> None:
    backend.set_note("pause.routes", '{"a": "ä"}\nand more')

    assert '{"a": "ä"}\nand more\n' == (base / "notes" / "pause.routes.txt").read_text(encoding="utf-8")
    assert ["pause.routes.txt"] == [path.name for path in (base / "notes").iterdir()]


def test_a_note_may_be_written_and_removed_by_hand(backend: FsMetaBackend, base: Path) -> None:
    (base / "notes" / "pause.txt").write_text("by hand\n")
    (base / "notes" / "empty.txt").write_text("\n")
    assert {"pause": "by hand", "empty": ""} == backend.get_notes()

    (base / "notes" / "pause.txt").unlink()
    assert {"empty": ""} == backend.get_notes()


def a_folder(path: Path) -> None:
    path.mkdir()


def a_link(path: Path) -> None:
    path.symlink_to("good.txt")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


_DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(b"paused by som"),
    "zeros": lambda path: path.write_bytes(b"\0" * 512 + b"\n"),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\n"),
    "too long": lambda path: path.write_bytes(b"x" * 65_537 + b"\n"),
    "a folder": a_folder,
    "a link": a_link,
    "a pipe": a_pipe,
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_a_note_that_is_none_is_a_finding_and_harms_no_other(backend: FsMetaBackend, base: Path, damage: str) -> None:
    backend.set_note("good", "x")
    _DAMAGE[damage](base / "notes" / "bad.txt")

    assert {"good": "x"} == backend.get_notes()
    findings = [each for each in backend.check() if each.severity is Severity.ERROR]
    assert ["notes/bad.txt"] == [each.subject for each in findings]
    if damage != "a folder":
        backend.set_note("bad", "anew")
        assert {"good": "x", "bad": "anew"} == backend.get_notes()
        assert [] == list(backend.check())


def test_what_is_no_note_is_told_and_left_alone(backend: FsMetaBackend, base: Path) -> None:
    for name in ("README", "two words.txt"):
        (base / "notes" / name).write_text("x\n")

    assert {} == backend.get_notes()
    assert {("notes/README", Severity.NOTICE), ("notes/two words.txt", Severity.ERROR)} == {
        (each.subject, each.severity) for each in backend.check()
    }


def test_a_note_that_this_user_may_not_read_is_no_note_that_is_not_there(
    backend: FsMetaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.set_note("pause", "x")
    real = os.open

    def refusing(path: str, *args: int, **kwargs: int) -> int:
        if str(path).endswith("pause.txt"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)

    with pytest.raises(BackendUnavailableError, match="reading the notes"):
        backend.get_notes()


def test_a_store_in_the_namespace_notes_lies_beside_the_notes(base: Path) -> None:
    factory = FsMetaFactory(base)
    with factory.create() as outer, factory.in_namespace("notes").create() as inner:
        outer.set_note("incoming", "outer")
        inner.set_note("incoming", "inner")
        inner.store_meta("m", MessageMetadata("m"))

        assert ({"incoming": "outer"}, {"incoming": "inner"}) == (outer.get_notes(), inner.get_notes())
        assert [] == [*outer.check(), *inner.check()]
    factory.destroy()
    with factory.in_namespace("notes").create() as inner:
        assert {"incoming": "inner"} == inner.get_notes()
        assert ("m",) == inner.list_messages(State.INCOMING).message_ids


def test_what_a_killed_writer_of_a_note_left_is_swept(base: Path) -> None:
    with FsMetaFactory(base).create():
        pass
    left = base / "notes" / ".tmp.0123456789ab.0"
    left.write_text("half a no")

    with FsMetaFactory(base).create() as backend:
        backend.set_note("a", "x")
        assert {"a": "x"} == backend.get_notes()
        backend._keeper.close()  # which has swept before it ends
        assert not left.exists()


@pytest.mark.parametrize("which", ["its own", "another's"])
def test_one_change_ends_one_wait(base: Path, which: str) -> None:
    """Who is paused claims nothing, and must not be told of the same change without end."""
    with FsMetaFactory(base).create() as backend, FsMetaFactory(base).create() as other:
        while backend.wait_for_change(0.2):
            pass
        (backend if which == "its own" else other).set_note("pause", "x")
        assert backend.wait_for_change(30)
        assert not backend.wait_for_change(0.2)

        (backend if which == "its own" else other).store_meta("m", MessageMetadata("m"))
        assert backend.wait_for_change(30)
        assert not backend.wait_for_change(0.2)
        assert ["m"] == [each.id for each in backend.iter_messages(State.INCOMING)]


def test_a_note_is_no_message_that_has_changed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FsMetaFactory(base).create() as backend, FsMetaFactory(base).create() as other:
        backend.list_messages(State.INCOMING)
        looked_up: list[str] = []
        monkeypatch.setattr(backend._surveyor, "refresh", looked_up.append)
        other.set_note("pause", "x")

        assert 0 == backend.list_messages(State.INCOMING).total
        assert [] == looked_up
