"""Locks by key, between threads, instances and processes."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from retryspool import deadline
from retryspool.conformance.racing import race
from retryspool.errors import DeadlineExceededError
from retryspool.files import StripedLocks

HOLDER = """
import sys
from retryspool.files import StripedLocks
locks = StripedLocks(sys.argv[1], stripes=8)
with locks.holding(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "locks")


@pytest.fixture
def locks(path: str) -> Iterator[StripedLocks]:
    locks = StripedLocks(path, stripes=8)
    yield locks
    locks.close()


def test_a_key_has_the_same_stripe_everywhere(locks: StripedLocks, tmp_path: Path) -> None:
    other = StripedLocks(str(tmp_path / "others"), stripes=8)
    stripes = [locks.stripe_of(f"k{number}") for number in range(100)]

    assert set(range(8)) == set(stripes)
    assert stripes == [other.stripe_of(f"k{number}") for number in range(100)]
    other.close()


def test_a_stripe_is_held_once_within_an_instance(locks: StripedLocks) -> None:
    assert [True, False] == [locks.try_acquire(3) for _ in range(2)]
    assert locks.try_acquire(4)
    locks.release(3)
    assert locks.try_acquire(3)


def test_a_stripe_is_held_once_between_instances_of_a_process(locks: StripedLocks, path: str) -> None:
    other = StripedLocks(path, stripes=8)

    assert locks.try_acquire(3)
    assert [False, True] == [other.try_acquire(3), other.try_acquire(4)]
    assert not locks.try_acquire(4)

    locks.release(3)
    assert other.try_acquire(3)
    other.close()


def test_closing_one_instance_keeps_the_locks_of_another(locks: StripedLocks, path: str) -> None:
    locks.acquire(3)
    StripedLocks(path, stripes=8).close()

    other = StripedLocks(path, stripes=8)
    assert not other.try_acquire(3)
    other.close()


def test_a_stripe_is_held_once_between_processes(locks: StripedLocks, path: str) -> None:
    stripe = locks.stripe_of("k")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, "k"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert "held\n" == holder.stdout.readline()
        assert not locks.try_acquire(stripe)
        with deadline(0.05), pytest.raises(DeadlineExceededError):
            locks.acquire(stripe)

        holder.stdin.write("\n")
        holder.stdin.flush()
        locks.acquire(stripe)
        assert "released\n" == holder.stdout.readline()
    locks.release(stripe)


def test_a_process_that_is_killed_gives_its_locks_back(locks: StripedLocks, path: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, "k"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert "held\n" == holder.stdout.readline()
        holder.kill()

    locks.acquire(locks.stripe_of("k"))


FORKING_HOLDER = """
import os, sys
from retryspool.files import StripedLocks
locks = StripedLocks(sys.argv[1], stripes=8)
with locks.holding(sys.argv[2]):
    if os.fork():
        os.kill(os.getpid(), 9)
    print("alone", flush=True)
    sys.stdin.readline()
"""


def test_a_killed_process_gives_its_locks_back_though_a_child_that_it_forked_lives_on(
    locks: StripedLocks, path: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING_HOLDER, path, "k"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert "alone\n" == holder.stdout.readline()
        holder.wait()

        with deadline(30):
            locks.acquire(locks.stripe_of("k"))


@pytest.mark.parametrize("other_instance", [False, True], ids=["same instance", "other instance"])
def test_waiting_ends_at_the_deadline_and_leaves_nothing_held(
    locks: StripedLocks,
    path: str,
    other_instance: bool,  # noqa: FBT001
) -> None:
    waiter = StripedLocks(path, stripes=8) if other_instance else locks
    locks.acquire(3)

    with deadline(0.02), pytest.raises(DeadlineExceededError, match="while waiting for a lock"):
        waiter.acquire(3)

    locks.release(3)
    assert waiter.try_acquire(3)
    if other_instance:
        waiter.close()


def test_a_free_stripe_is_taken_within_a_deadline(locks: StripedLocks) -> None:
    with deadline(10):
        locks.acquire(3)
    assert not locks.try_acquire(3)


def test_a_key_is_held_for_a_block(locks: StripedLocks) -> None:
    stripe = locks.stripe_of("k")

    with locks.holding("k"):
        assert [each != stripe for each in range(8)] == [locks.try_acquire(each) for each in range(8)]
    assert locks.try_acquire(stripe)


def test_an_error_gives_the_key_back(locks: StripedLocks) -> None:
    with pytest.raises(KeyError), locks.holding("k"):
        raise KeyError

    assert all(locks.try_acquire(stripe) for stripe in range(8))


def test_what_could_not_be_had_is_not_given_back(locks: StripedLocks) -> None:
    locks.acquire(locks.stripe_of("k"))

    with deadline(0.02), pytest.raises(DeadlineExceededError), locks.holding("k"):
        pass

    assert not locks.try_acquire(locks.stripe_of("k"))


def test_a_failure_of_the_file_leaves_no_thread_locked_out(
    locks: StripedLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "fcntl", refuse)
        for take in (locks.try_acquire, locks.acquire):
            with pytest.raises(OSError, match="No locks available"):
                take(3)

    assert locks.try_acquire(3)


def test_threads_never_hold_a_stripe_together(path: str) -> None:
    instances = [StripedLocks(path, stripes=8) for _ in range(2)]
    inside = [0] * 8

    def run(racer: int) -> int:
        locks = instances[racer % 2]
        for number in range(100):
            key = f"k{(racer * 7 + number) % 20}"
            stripe = locks.stripe_of(key)
            with locks.holding(key):
                inside[stripe] += 1
                os.sched_yield()
                assert 1 == inside[stripe]
                inside[stripe] -= 1
        return racer

    assert list(range(8)) == race(8, run)
    for locks in instances:
        locks.close()


def test_the_file_does_not_grow_and_may_be_closed_again(locks: StripedLocks, path: str) -> None:
    for number in range(100):
        with locks.holding(f"k{number}"):
            assert 0 == Path(path).stat().st_size
    locks.close()
    locks.close()
