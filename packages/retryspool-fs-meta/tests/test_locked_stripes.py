"""What is locked by others: waited for in time, passed over, and named."""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.files import StripedLocks
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta import FsMetaFactory, hints
from retryspool_fs_meta.held import HeldStripes
from retryspool_fs_meta.hints import Hints


@pytest.fixture
def others(tmp_path: Path) -> Iterator[StripedLocks]:
    locks = StripedLocks(str(tmp_path / "stripes"))
    yield locks
    locks.close()


class WatchedLocks(StripedLocks):
    """Locks that do something after each failed try."""

    tries = 0

    def _try_file(self, stripe: int) -> bool:
        self.tries += 1
        taken = super()._try_file(stripe)
        if not taken:
            self.failed()
        return taken

    def failed(self) -> None: ...


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[WatchedLocks]:
    locks = WatchedLocks(str(tmp_path / "stripes"))
    yield locks
    locks.close()


def test_a_stripe_that_is_held_is_passed_over_at_once(locks: WatchedLocks, others: StripedLocks) -> None:
    held = HeldStripes(locks)
    others.acquire(3)

    assert [False, True] == [held.take(3), held.take(4)]
    assert 2 == locks.tries


def test_a_stripe_that_was_passed_over_for_long_is_waited_for(
    locks: WatchedLocks, others: StripedLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retryspool_fs_meta.held._PASSED_OVER_S", 0.0)
    held = HeldStripes(locks)
    others.acquire(3)

    def let_go() -> None:
        if locks.tries == 2:  # so that a single try is in vain
            others.release(3)

    locks.failed = let_go  # type: ignore[method-assign]

    assert held.take(3)


def test_a_stripe_that_is_stuck_is_not_waited_for(
    locks: WatchedLocks, others: StripedLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retryspool_fs_meta.held._PASSED_OVER_S", 0.0)
    held = HeldStripes(locks)
    others.acquire(3)
    locks.note_stuck(3)

    assert [False] * 10 == [held.take(3) for _ in range(10)]
    assert 10 == locks.tries
    others.release(3)
    assert held.take(3)
    assert not locks.is_stuck(3)


@pytest.mark.parametrize("tries", [1, 5])
@pytest.mark.parametrize("free", [["a", "b"], []], ids=["and others", "alone"])
def test_a_message_that_is_let_go_in_time_is_claimed_with_the_others(
    base: Path, monkeypatch: pytest.MonkeyPatch, free: list[str], tries: int
) -> None:
    """If there are others it's tried just once more, else again and again."""
    monkeypatch.setattr("retryspool_fs_meta.held._PASSED_OVER_S", 600.0)
    with FsMetaFactory(base).create() as backend:
        for message_id in ("m", *free):
            backend.store_meta(message_id, MessageMetadata(message_id, priority=1 if message_id == "m" else 5))
        others = StripedLocks(f"{base}/.locks/stripes")
        stripe = others.stripe_of("m")
        others.acquire(stripe)
        real, failed = StripedLocks._try_file, itertools.count(1)

        def let_go(locks: StripedLocks, tried: int) -> bool:
            taken = real(locks, tried)
            if not taken and next(failed) == tries:
                others.release(stripe)
            return taken

        monkeypatch.setattr(StripedLocks, "_try_file", let_go)
        claimed = backend.claim([State.INCOMING], limit=10, lease=timedelta(minutes=1), owner="w")
        others.close()

    assert [*free, *(["m"] if tries == 1 or not free else [])] == [record.id for record in claimed]


def test_hints_are_told_although_a_stopped_process_is_about_to_begin_the_file_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hints, "_MAX_BYTES", 100)
    monkeypatch.setattr(hints, "_CHECK_EVERY", 1)
    path = tmp_path / "hints"
    writer, reader = Hints(str(path), "bbb"), Hints(str(path), "aaa")
    stopped = os.open(path, os.O_RDWR)
    fcntl.flock(stopped, fcntl.LOCK_EX)

    for number in range(20):
        writer.tell([f"m{number}"])
    assert ({f"m{number}" for number in range(20)}, False) == reader.read()

    os.close(stopped)
    writer.tell(["last"])
    assert 100 > path.stat().st_size
    for each in (reader, writer, Hints(str(path), "ccc")):
        each.close()


def test_a_url_says_how_long_locks_are_waited_for() -> None:
    assert FsMetaFactory("/x", lock_timeout=2.5) == FsMetaFactory.from_url("fs:///x?lock_timeout=2.5")
    assert 2.5 == FsMetaFactory("/x", lock_timeout=2.5).in_namespace("n").lock_timeout
    assert 30.0 == FsMetaFactory("/x").lock_timeout


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "3601", "inf"])
def test_a_wait_for_locks_that_is_out_of_range_is_refused(seconds: str) -> None:
    with pytest.raises(InvalidOptionError, match="it must be more than 0 and at most 3600 seconds"):
        FsMetaFactory("/x", lock_timeout=float(seconds))
    with pytest.raises(InvalidUrlError, match="lock_timeout is"):
        FsMetaFactory.from_url(f"fs:///x?lock_timeout={seconds}")
