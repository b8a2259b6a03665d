"""Calls under a deadline that may fail: what comes of each, and how long that takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from retryspool.conformance.racing import race
from retryspool.deadline import deadline
from retryspool.errors import BackendUnavailableError, DeadlineExceededError, StorageError

__all__ = [
    "DEADLINE_S",
    "GRACE_S",
    "HEALED_S",
    "Attempt",
    "allowed_s",
    "attempt_all",
    "is_given_up",
    "is_without_effect",
    "result_of",
    "soon",
    "under_load",
]

DEADLINE_S = 0.3
"""What the suite's calls get where they are to hang."""
GRACE_S = 1.0
"""So much longer than its deadline a call may take."""
HEALED_S = 5.0
"""So long after the network is sound again a backend may still fail."""
_TRY_S = 1.0
_LOAD_S = 0.2
_PAUSE_S = 0.02
_WORK_S = 0.02
_PATIENCE_S = 20

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one call under a deadline came to."""

    seconds: float
    result: object
    """What it returned, or the `StorageError` that it raised."""


def attempt_all(
    calls: Mapping[str, Callable[[], object]], heal: Callable[[], None], *, limit_s: float = DEADLINE_S
) -> dict[str, Attempt]:
    """Make calls, all at once and each under a deadline; return what came of each by its name.

    :param heal: is called if one hangs, so that it ends
    :raises AssertionError: one takes longer than its deadline and a second more, or raises what is none of our errors
    """
    attempts: dict[str, Attempt] = {}
    escaped: dict[str, BaseException] = {}

    def make(name: str, call: Callable[[], object]) -> None:
        begun = time.monotonic()
        try:
            result = result_of(call, limit_s=limit_s)
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it's the test's failure
            escaped[name] = error
        else:
            attempts[name] = Attempt(time.monotonic() - begun, result)

    threads = {name: threading.Thread(target=make, args=(name, call), daemon=True) for name, call in calls.items()}
    for thread in threads.values():
        thread.start()
    threading.Event().wait(limit_s)  # then all are busy giving up
    most_s = allowed_s(limit_s)
    until = time.monotonic() + most_s - limit_s
    for thread in threads.values():
        thread.join(max(0, until - time.monotonic()))
    if any(thread.is_alive() for thread in threads.values()):
        heal()
    for thread in threads.values():
        thread.join(_PATIENCE_S + limit_s)
    late = {name for name in calls if name not in escaped and (name not in attempts or attempts[name].seconds > most_s)}
    assert {} == escaped, "only errors of RetrySpool's tree may escape"
    assert set() == late, f"with {limit_s} s allowed, these were not given up after {most_s:.1f} s"
    return attempts


def allowed_s(limit_s: float) -> float:
    """Return how long a call may take that has so many seconds: one more.

    What a busy machine costs isn't held against it: the second of grace is longer by what other work is late there.
    """
    return limit_s + GRACE_S + 2 * _lag()


def _lag() -> float:
    """Return by how much this machine is too busy now to do a little work at once, in seconds."""
    begun = time.monotonic()
    until = time.thread_time() + _WORK_S
    while time.thread_time() < until:
        pass
    return max(0.0, time.monotonic() - begun - _WORK_S)


def result_of(call: Callable[[], Result], *, limit_s: float) -> Result | StorageError:
    """Return what a call under a deadline returns, or the `StorageError` that it raises.

    :raises AssertionError: it has long passed its deadline, and still runs
    """
    ended: Future[Result | StorageError] = Future()

    def run() -> None:
        try:
            with deadline(limit_s):
                ended.set_result(call())
        except StorageError as error:
            ended.set_result(error)
        except BaseException as error:  # noqa: BLE001 -- whatever it is, the test fails with it
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    wait([ended], limit_s + _PATIENCE_S)
    assert ended.done(), f"with {limit_s} s allowed, it still runs after {limit_s + _PATIENCE_S} s"
    return ended.result()


def under_load(callers: int, call: Callable[[int, int], object], *, calls: int, seconds: float) -> list[object]:
    """Let threads make calls, `call(caller, number)`, so many in all or for so long; return what came of each."""
    until = time.monotonic() + seconds

    def run(caller: int) -> list[object]:
        results: list[object] = []
        for number in range(calls // callers + 1):
            results.append(result_of(partial(call, caller, number), limit_s=_LOAD_S))
            if time.monotonic() >= until:
                break
        return results

    return [result for results in race(callers, run) if isinstance(results, list) for result in results]


def is_given_up(error: object) -> bool:
    """Tell whether this is one of the two errors that a network's failure may become."""
    return isinstance(error, (BackendUnavailableError, DeadlineExceededError))


def is_without_effect(error: object) -> bool:
    """Tell whether this error says that nothing was done, or at least doesn't say that something may have been."""
    return isinstance(error, DeadlineExceededError) or (
        isinstance(error, BackendUnavailableError) and error.outcome == "none"
    )


def soon(work: Callable[[], Result], *, within_s: float = HEALED_S) -> Result:
    """Try until it works.

    :raises StorageError: it doesn't in time
    :raises AssertionError: it doesn't in time
    """
    until = time.monotonic() + within_s
    while True:
        late = time.monotonic() >= until
        try:
            result = result_of(work, limit_s=_TRY_S)
        except AssertionError:
            if late:
                raise
        else:
            if not isinstance(result, StorageError):
                return result
            if late:
                raise result
        threading.Event().wait(_PAUSE_S)
