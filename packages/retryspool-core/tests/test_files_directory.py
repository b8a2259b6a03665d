"""Directories whose names survive, and the file operations that are easy to get wrong."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retryspool.conformance.racing import race
from retryspool.files import Directory, make_directory, network_file_system, unlink_if_there, write_all


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories that are synced, in order."""
    paths: list[str] = []

    def fsync(fd: int) -> None:
        paths.append(str(Path(f"/proc/self/fd/{fd}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def test_a_directory_is_synced_itself(tmp_path: Path, synced: list[str]) -> None:
    directory = Directory(tmp_path)
    directory.sync()
    directory.close()

    assert [str(tmp_path)] == synced
    assert str(tmp_path) == directory.path


def test_a_directory_may_be_closed_again(tmp_path: Path) -> None:
    directory = Directory(tmp_path)
    directory.close()
    directory.close()

    with pytest.raises(ValueError, match="negative"):
        directory.sync()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(NotADirectoryError):
        Directory(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileExistsError):
            make_directory(path)


def test_every_new_directory_is_synced_into_the_one_above(tmp_path: Path, synced: list[str]) -> None:
    make_directory(tmp_path / "a" / "b" / "c")

    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")] == synced


def test_nothing_is_synced_where_that_is_not_wanted(tmp_path: Path, synced: list[str]) -> None:
    make_directory(tmp_path / "a" / "b", sync=False)

    assert (tmp_path / "a" / "b").is_dir()
    assert [] == synced


def test_a_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(0o711)
    (tmp_path / "a" / "file").touch()

    make_directory(tmp_path / "a", 0o700)

    assert 0o711 == stat.S_IMODE((tmp_path / "a").stat().st_mode)
    assert (tmp_path / "a" / "file").exists()


def test_new_directories_have_the_mode_asked_for(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b", 0o700)

    assert [0o700, 0o700] == [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b")]


def test_many_may_make_the_same_directory(tmp_path: Path) -> None:
    assert [None] * 16 == race(16, lambda _: make_directory(tmp_path / "a" / "b" / "c"))


@pytest.mark.parametrize("wrap", [bytes, memoryview], ids=["bytes", "memoryview"])
def test_a_short_write_is_continued(
    monkeypatch: pytest.MonkeyPatch, wrap: Callable[[bytes], bytes | memoryview]
) -> None:
    written: list[bytes] = []

    def write(_: int, data: bytes | memoryview) -> int:
        written.append(bytes(data[:3]))
        return len(written[-1])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        write_all(99, wrap(b"0123456789"))

    assert [b"012", b"345", b"678", b"9"] == written


def test_a_write_that_fails_half_way_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([2, OSError(28, "No space left on device")])

    def write(_: int, __: bytes) -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            write_all(99, b"abc")


def test_nothing_is_written_whole(tmp_path: Path) -> None:
    with (tmp_path / "empty").open("wb") as file:
        write_all(file.fileno(), b"")

    assert b"" == (tmp_path / "empty").read_bytes()


def test_an_unlink_tells_whether_there_was_something(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert [True, False] == [unlink_if_there(str(tmp_path / "file")) for _ in range(2)]
    with pytest.raises(OSError, match="directory"):
        unlink_if_there(str(tmp_path))


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/share rw - nfs4 server:/export rw
31 30 8:2 / /mnt/share/local rw - xfs /dev/sdb rw
32 22 0:50 / /mnt/with\\040blank rw - cifs //server/x rw
33 22 0:51 / /home rw - nfs server:/home rw
34 22 8:3 / /home rw - ext4 /dev/sdc rw
"""


@pytest.mark.skipif(sys.platform != "linux", reason="read from Linux's table of mounts")
@pytest.mark.parametrize(
    ("expected", "path"),
    [
        (None, "/var/spool"),
        ("nfs4", "/mnt/share"),
        ("nfs4", "/mnt/share/deep/below"),
        (None, "/mnt/share2"),
        (None, "/mnt/share/local/x"),
        ("cifs", "/mnt/with blank/x"),
        (None, "/home/me"),  # mounted over
    ],
)
def test_a_network_file_system_is_told_from_a_local_one(
    monkeypatch: pytest.MonkeyPatch, expected: str | None, path: str
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: MOUNTS)
    monkeypatch.setattr(Path, "resolve", lambda self: self)

    assert expected == network_file_system(path)


def test_where_it_cannot_be_told_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)

    assert network_file_system(tmp_path) is None
