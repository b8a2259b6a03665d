"""Locks by key, between threads, instances and processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retryspool import deadline
from retryspool.conformance.racing import race
from retryspool.errors import BackendUnavailableError, DeadlineExceededError
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


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_who_waits_for_too_long_is_told_who_holds_the_lock(
    path: str,
    stopped: bool,  # noqa: FBT001
) -> None:
    locks = StripedLocks(path, stripes=8, timeout_s=0.1)
    stripe = locks.stripe_of("k")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path, "k"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert "held\n" == holder.stdout.readline()
        if stopped:
            holder.send_signal(signal.SIGSTOP)
            os.waitpid(holder.pid, os.WUNTRACED)

        with pytest.raises(BackendUnavailableError) as raised, locks.holding("k"):
            pass
        assert [(holder.pid, stripe, stopped)] == [(each.pid, each.first, each.is_stopped) for each in locks.holders()]
        holder.kill()

    assert "none" == raised.value.outcome
    text = str(raised.value)
    assert text.startswith(f"the lock of 'k' (byte {stripe} of {path!r}) couldn't be had within ")
    assert "s, and nothing was changed; " in text
    assert f"process {holder.pid} (python" in text
    assert stopped == (f"is stopped: let it go on (kill -CONT {holder.pid})" in text)
    assert f"end it (kill -KILL {holder.pid})" in text
    locks.acquire(stripe)
    locks.close()


def test_a_holder_in_this_process_is_not_to_be_killed(path: str, locks: StripedLocks) -> None:
    waiter = StripedLocks(path, stripes=8, timeout_s=0.05)
    locks.acquire(3)

    with pytest.raises(BackendUnavailableError, match=r"another thread of this process holds it$"):
        waiter.acquire(3)
    waiter.close()


def test_a_holder_that_cannot_be_told_is_not_made_up(path: str, locks: StripedLocks) -> None:
    hidden = f"{path}-hidden"  # as in a container that knows the file by another name
    os.link(path, hidden)
    waiter = StripedLocks(hidden, stripes=8, timeout_s=0.05)
    locks.acquire(3)

    with pytest.raises(BackendUnavailableError, match="who holds it can't be told from here"):
        waiter.acquire(3)
    waiter.close()


def test_what_was_waited_for_in_vain_is_stuck_until_it_is_had(path: str, locks: StripedLocks) -> None:
    waiter = StripedLocks(path, stripes=8, timeout_s=0.05)
    locks.acquire(3)
    assert not waiter.try_for(3, 0.0)
    assert not waiter.is_stuck(3)
    assert not waiter.try_for(3, 600.0)  # as for all waits, 0.05 s
    assert waiter.is_stuck(3)

    locks.release(3)
    assert waiter.try_acquire(3)
    assert not waiter.is_stuck(3)
    waiter.close()


def test_a_batch_waits_for_all_its_locks_together(path: str, locks: StripedLocks) -> None:
    waiter = StripedLocks(path, stripes=8, timeout_s=600)
    for stripe in range(8):
        locks.acquire(stripe)
    started = time.monotonic()

    with waiter.batch(0.1):
        for stripe in range(8):
            with pytest.raises(BackendUnavailableError):
                waiter.acquire(stripe)

    assert 30 > time.monotonic() - started
    waiter.close()


def test_a_key_that_is_tried_is_held_if_it_was_free(path: str, locks: StripedLocks) -> None:
    other = StripedLocks(path, stripes=8)
    with locks.trying("k") as held, other.trying("k", 0.01) as held_twice:
        assert (True, False) == (held, held_twice)
    with other.trying("k") as held:
        assert held
    other.close()


def test_a_busy_stripe_is_had_in_turn_by_all_who_wait(path: str) -> None:
    instances = [StripedLocks(path, stripes=8) for _ in range(4)]

    def run(racer: int) -> int:
        for _ in range(50):
            instances[racer].acquire(3)
            os.sched_yield()
            instances[racer].release(3)
        return racer

    assert list(range(4)) == race(4, run)
    for each in instances:
        each.close()


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
