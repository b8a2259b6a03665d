"""What else may lie in a spool's folders, by accident or on purpose."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from retryspool.errors import BackendError, CorruptRecordError
from retryspool.model import MessageMetadata, Severity, State
from retryspool_fs_meta import FsMetaFactory, record_files

LEASE = timedelta(minutes=1)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def symlink_to_a_record(path: Path, _: ExitStack) -> None:
    outside = path.parent.parent.parent / "outside.json"
    outside.write_text('{"ID": "m"}')
    path.symlink_to(outside)


def dangling_symlink(path: Path, _: ExitStack) -> None:
    path.symlink_to("/nowhere/at/all")


def symlink_to_itself(path: Path, _: ExitStack) -> None:
    path.symlink_to(path)


def folder(path: Path, _: ExitStack) -> None:
    path.mkdir()
    (path / "something").write_text("in it")


def pipe(path: Path, _: ExitStack) -> None:
    os.mkfifo(path)


def pipe_that_somebody_writes_to(path: Path, opened: ExitStack) -> None:
    os.mkfifo(path)
    opened.callback(os.close, os.open(path, os.O_RDWR | os.O_NONBLOCK))


def unix_socket(path: Path, opened: ExitStack) -> None:
    server = opened.enter_context(socket.socket(socket.AF_UNIX))
    before = Path.cwd()
    os.chdir(path.parent)  # the path of a socket must be short
    try:
        server.bind(path.name)
    finally:
        os.chdir(before)


def endless_device(path: Path, _: ExitStack) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


KINDS: list[Callable[[Path, ExitStack], None]] = [
    symlink_to_a_record,
    dangling_symlink,
    symlink_to_itself,
    folder,
    pipe,
    pipe_that_somebody_writes_to,
    unix_socket,
    endless_device,
]


@pytest.mark.parametrize("make", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_what_is_called_like_a_record_and_is_no_file_is_set_aside_and_reported(
    base: Path, opened: ExitStack, make: Callable[[Path, ExitStack], None]
) -> None:
    with FsMetaFactory(base).create() as backend:
        backend.store_meta("sound", MessageMetadata("sound"))
    make(base / "incoming" / "m.json", opened)
    with FsMetaFactory(base).create() as backend:
        assert ("sound",) == backend.list_messages(State.INCOMING).message_ids
        assert ["sound"] == [record.id for record in backend.iter_messages(State.INCOMING)]
        assert ["sound"] == [each.id for each in backend.claim([State.INCOMING], limit=9, lease=LEASE, owner="w")]
        assert ["m"] == [path.stem for path in (base / "corrupt").iterdir()]
        assert any(
            finding.subject.startswith("corrupt/m.") and finding.severity is not Severity.NOTICE
            for finding in backend.check()
        )


@pytest.mark.parametrize("make", KINDS, ids=[kind.__name__ for kind in KINDS])
def test_what_is_called_like_a_record_and_is_no_file_is_never_followed_or_waited_for(
    base: Path, opened: ExitStack, make: Callable[[Path, ExitStack], None]
) -> None:
    with FsMetaFactory(base).create() as backend:
        make(base / "incoming" / "m.json", opened)
        if make in {pipe, endless_device}:  # nothing can be read from the one, nothing but zeros from the other
            with pytest.raises((CorruptRecordError, KeyError)):
                backend.get_meta("m")
        else:
            with pytest.raises(CorruptRecordError):
                backend.get_meta("m")
        assert 1 == backend.store_meta("m", MessageMetadata("m")).version
        assert '{"ID": "m"}' == (base.parent / "outside.json").read_text() if make is symlink_to_a_record else True


def test_a_file_that_is_no_record_s_size_is_not_read_into_memory(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "_MOST_BYTES", 200_000)
    with FsMetaFactory(base).create() as backend:
        with (base / "incoming" / "m.json").open("wb") as file:
            file.truncate(10 * 1024**3)
        with pytest.raises((CorruptRecordError, KeyError)):
            backend.get_meta("m")
        big = MessageMetadata("big", last_error="x" * 150_000)
        assert backend.store_meta("big", big) == backend.get_meta("big")


FOREIGN = [
    "README",
    "m.JSON",
    "m.json~",
    "m.json.bak",
    "-m.json",
    "a b.json",
    "ä.json",
    ".hidden.json",
    ".json",
    "x" * 201 + ".json",
]


def test_foreign_files_are_left_alone_and_reported(base: Path) -> None:
    with FsMetaFactory(base).create() as backend:
        for name in FOREIGN:
            (base / "incoming" / name).write_text('{"ID": "m"}')
        os.close(os.open(os.fsencode(base / "incoming") + b"/\xff.json", os.O_CREAT))
        assert () == backend.list_messages(State.INCOMING).message_ids
        assert [] == backend.claim([State.INCOMING], limit=9, lease=LEASE, owner="w")
        findings = [finding for finding in backend.check() if finding.severity is Severity.NOTICE]
        assert len(FOREIGN) + 1 == len(findings)
        assert len(FOREIGN) + 1 == len(list((base / "incoming").iterdir()))


@pytest.mark.parametrize("name", ["incoming", "corrupt", ".locks"])
@pytest.mark.parametrize("kind", ["a symlink", "a file"])
def test_a_spool_whose_folder_is_something_else_does_not_open(base: Path, name: str, kind: str) -> None:
    with FsMetaFactory(base).create():
        pass
    elsewhere = base.parent / "elsewhere"
    elsewhere.mkdir()
    path = base / name
    for each in path.iterdir():
        each.unlink()
    path.rmdir()
    if kind == "a file":
        path.write_text("")
    else:
        path.symlink_to(elsewhere)
    with pytest.raises(BackendError):
        FsMetaFactory(base).create()
    assert [] == list(elsewhere.iterdir())


def test_what_can_not_be_swept_keeps_nothing_else_from_being_swept(base: Path) -> None:
    with FsMetaFactory(base).create():
        pass
    token = "0123456789ab"
    (base / "incoming" / f".tmp.{token}.1").mkdir()
    (base / "hold" / f".tmp.{token}.2").write_text("left by a dead process")
    with FsMetaFactory(base).create() as backend:
        backend.list_messages(State.INCOMING)
        assert [] == list((base / "hold").iterdir())
        assert [] == [finding for finding in backend.check() if finding.severity is Severity.ERROR]
