"""Temporary files, told from those that dead processes left behind."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retryspool.conformance.racing import race
from retryspool.files import TEMPORARY_PREFIX, Presence, sweep_temporary_files

LEAVER = """
import pathlib, sys
from retryspool.files import Presence
here = Presence(sys.argv[1])
path = pathlib.Path(sys.argv[2], here.temporary_name())
path.touch()
print(path.name, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    (tmp_path / "locks").mkdir()
    return tmp_path / "locks"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def sweep(locks: Path, *folders: Path) -> int:
    return sweep_temporary_files(str(locks), map(str, folders))


def test_temporary_names_are_unique_and_no_message_s(locks: Path) -> None:
    here, there = Presence(str(locks)), Presence(str(locks))

    names = [instance.temporary_name() for instance in (here, there) for _ in range(100)]

    assert 200 == len(set(names))
    assert all(name.startswith(TEMPORARY_PREFIX) and not name[0].isalnum() for name in names)
    here.close()
    there.close()


def test_the_files_of_a_living_instance_stay(locks: Path, folder: Path) -> None:
    here = Presence(str(locks))
    kept = folder / here.temporary_name()
    kept.touch()

    assert 0 == sweep(locks, folder)
    assert [kept] == list(folder.iterdir())
    assert 1 == len(list(locks.iterdir()))
    here.close()


def test_the_files_of_a_closed_instance_go(locks: Path, folder: Path) -> None:
    here = Presence(str(locks))
    for _ in range(3):
        (folder / here.temporary_name()).touch()
    here.close()
    here.close()

    assert 3 == sweep(locks, folder)
    assert [] == list(folder.iterdir()) + list(locks.iterdir())


def test_a_living_process_keeps_its_files_and_a_killed_one_loses_them(locks: Path, folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEAVER, str(locks), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as leaver:
        assert leaver.stdout is not None
        name = leaver.stdout.readline().strip()
        assert 0 == sweep(locks, folder)
        assert [name] == names_in(folder)

        leaver.kill()
        leaver.wait()

        assert 1 == sweep(locks, folder)
        assert [] == list(folder.iterdir()) + list(locks.iterdir())


def test_messages_that_look_like_temporary_files_stay(locks: Path, folder: Path) -> None:
    names = {"a.tmp.b.json", "a.json", "tmp.0123456789ab.0", "x.tmp.0123456789ab.0", ".tmpfile", "live.0123456789ab"}
    for name in names:
        (folder / name).touch()
        os.utime(folder / name, (0, 0))

    assert 0 == sweep(locks, folder)
    assert names == set(names_in(folder))


def test_a_stranger_s_temporary_file_goes_once_it_is_old(locks: Path, folder: Path) -> None:
    for name, age_s in {".tmp.abc123": 4000, ".tmp.new": 10}.items():
        (folder / name).touch()
        os.utime(folder / name, (0, time.time() - age_s))

    assert 1 == sweep(locks, folder)
    assert [".tmp.new"] == names_in(folder)


def test_folders_below_are_left_alone(locks: Path, folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / ".tmp.0123456789ab.0").touch()

    assert 0 == sweep(locks, folder)
    assert (folder / "below" / ".tmp.0123456789ab.0").exists()


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path, folder: Path) -> None:
    (folder / ".tmp.0123456789ab.0").touch()

    assert 1 == sweep(tmp_path / "no locks", tmp_path / "nothing", folder)


def test_many_may_sweep_while_others_open_and_close(locks: Path, folder: Path) -> None:
    def run(racer: int) -> int:
        for _ in range(15):
            if racer % 2:
                sweep(locks, folder)
            else:
                here = Presence(str(locks))
                mine = folder / here.temporary_name()
                mine.touch()
                assert mine.exists()
                mine.unlink()  # fails if a sweeper took it from a living instance
                here.close()
        return racer

    assert list(range(8)) == race(8, run)
    sweep(locks, folder)
    assert [] == list(folder.iterdir()) + list(locks.iterdir())


def test_a_sign_that_was_swept_before_it_was_locked_is_made_anew(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    came: list[str] = []

    def sweeper_comes_first(fd: int, operation: int) -> None:
        if not came:
            came.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
            Path(came[0]).unlink()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", sweeper_comes_first)
    here = Presence(str(locks))

    assert [f"live.{here.token}"] == names_in(locks)
    assert not came[0].endswith(here.token)
    here.close()


def test_a_sign_that_a_stopped_sweeper_has_locked_is_made_anew(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock
    came: list[int] = []

    def sweeper_comes_first(fd: int, operation: int) -> None:
        if not came:
            came.append(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
            real(came[0], fcntl.LOCK_EX)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", sweeper_comes_first)
    here = Presence(str(locks))

    assert [f"live.{here.token}"] == names_in(locks)
    here.close()
    os.close(came[0])
