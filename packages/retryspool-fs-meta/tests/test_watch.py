"""Who waits is told by the system of what other processes write, or looks for itself where it can't be."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from retryspool import MessageMetadata, State
from retryspool.files import StripedLocks
from retryspool_fs_meta import FsMetaFactory, hints, keeper
from retryspool_fs_meta.backend import FsMetaBackend
from retryspool_fs_meta.watch import FileWatch

STORE = """
import sys
from retryspool import MessageMetadata
from retryspool_fs_meta import FsMetaFactory
with FsMetaFactory(sys.argv[1]).create() as backend:
    backend.store_meta("theirs", MessageMetadata("theirs"))
"""
NEVER_S = 3600.0
LONG_S = 40.0

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has inotify")


@pytest.fixture
def backend(base: Path) -> Iterator[FsMetaBackend]:
    with FsMetaFactory(base).create() as opened:
        yield opened


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def store_in_another_process(base: Path) -> None:
    subprocess.run([sys.executable, "-c", STORE, str(base)], check=True)


@on_linux
def test_a_waiter_that_looks_by_itself_at_nothing_is_told_of_another_process(
    base: Path, backend: FsMetaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_LOOK_EVERY_S", NEVER_S)
    monkeypatch.setattr(keeper, "_HINTS_EVERY_S", NEVER_S)
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(backend.wait_for_change(LONG_S)), daemon=True)
    waiting.start()

    store_in_another_process(base)
    waiting.join(LONG_S / 2)

    assert [True] == heard


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS])
def test_where_the_system_tells_nothing_a_waiter_looks_for_itself(
    base: Path, backend: FsMetaBackend, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(path: str) -> FileWatch:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(hints, "FileWatch", fail)

    store_in_another_process(base)

    assert backend.wait_for_change(LONG_S)
    assert not backend.wait_for_change(0.1)


@pytest.mark.parametrize("hints_are_written", [True, False])
def test_a_change_of_the_waiters_own_process_ends_its_wait(
    backend: FsMetaBackend, monkeypatch: pytest.MonkeyPatch, *, hints_are_written: bool
) -> None:
    if not hints_are_written:  # as on a disk that is full
        monkeypatch.setattr(hints.Hints, "tell", lambda *_: None)
    monkeypatch.setattr(keeper, "_LOOK_EVERY_S", NEVER_S)
    assert not backend.wait_for_change(0.01)
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(backend.wait_for_change(LONG_S)), daemon=True)
    waiting.start()

    backend.store_meta("a", MessageMetadata("a"))
    waiting.join(LONG_S / 2)

    assert [True] == heard


def test_who_waits_is_told_of_a_message_once_its_lock_is_free(
    base: Path, backend: FsMetaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_free: list[bool] = []
    with closing(StripedLocks(str(base / ".locks" / "stripes"))) as locks:

        def wake(_: object) -> None:
            with locks.trying("a") as is_free:
                was_free.append(is_free)

        monkeypatch.setattr(keeper.IndexKeeper, "wake", wake)

        backend.store_meta("a", MessageMetadata("a"))
        backend.update_meta("a", MessageMetadata("a", priority=1))
        backend.move_to_state("a", State.INCOMING, State.HOLD)

    assert [True, True, True] == was_free


@on_linux
def test_a_watch_that_is_closed_ends_its_waits_and_leaves_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    before = descriptors()
    watch = FileWatch(str(path))
    waiting = [threading.Thread(target=watch.wait, args=(LONG_S,), daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()

    watch.close()
    watch.close()
    for thread in waiting:
        thread.join(LONG_S / 2)

    assert [False] * 3 == [thread.is_alive() for thread in waiting]
    assert before == descriptors()
    watch.ring()
    watch.wait(NEVER_S)


@on_linux
def test_a_file_that_is_not_there_is_not_watched(tmp_path: Path) -> None:
    before = descriptors()

    with pytest.raises(FileNotFoundError, match="missing"):
        FileWatch(str(tmp_path / "missing"))

    assert before == descriptors()
