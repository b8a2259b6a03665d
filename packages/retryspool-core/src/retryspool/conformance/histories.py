"""What several clients did to a store at the same time: each operation with when it began and ended, and its result."""

from __future__ import annotations

import random
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from retryspool.errors import BackendUnavailableError, DeadlineExceededError

__all__ = [
    "OPEN",
    "Client",
    "Open",
    "Operation",
    "Timed",
    "by_message",
    "in_threads",
    "outcome_is_unknown",
    "table",
    "timed",
    "wait_until",
]

Result = TypeVar("Result")
Call = TypeVar("Call")

_STUMBLES = 0.04
"""At how many of a thread's calls it pauses."""
_STUMBLE_S = 1e-5
_SPIN_NS = 1_000_000
"""To wait for a moment so near, it's better not to sleep."""


class Open:
    """In place of a result: nobody knows whether it has happened, or will."""

    def __repr__(self) -> str:
        return "unknown"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Open)

    def __hash__(self) -> int:
        return 0


OPEN: Final = Open()


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that one client did to one message. Calls and results are values of the model that it's checked by."""

    client: int
    message_id: str
    call: object
    result: object
    began: int
    """By the monotonic clock, in nanoseconds: all processes of a machine have the same one."""
    ended: int | None
    """None while it's open: it may take effect at any later time, or never."""


@dataclass(frozen=True, slots=True)
class Timed(Generic[Result]):
    """A result, or `OPEN`, and when it was asked for and had."""

    result: Result | Open
    began: int
    ended: int | None


def timed(call: Callable[[], Result]) -> Timed[Result] | None:
    """Return what a call returned, and when; None if it says itself that it has certainly done nothing.

    :raises Exception: whatever it raises, but for what says that its outcome is unknown
    """
    began = time.monotonic_ns()
    try:
        result = call()
    except (BackendUnavailableError, DeadlineExceededError) as error:
        return Timed(OPEN, began, None) if outcome_is_unknown(error) else None
    return Timed(result, began, time.monotonic_ns())


def outcome_is_unknown(error: BackendUnavailableError | DeadlineExceededError) -> bool:
    """Tell whether what failed may have happened for all that."""
    return isinstance(error, DeadlineExceededError) or error.outcome == "unknown"


class Client(ABC, Generic[Call, Result]):
    """One client of a history: does at random what callers do, and notes what came of it.

    :param announce: called with what is about to begin, as open operations
    """

    def __init__(
        self, number: int, *, ids: Sequence[str], seed: str, announce: Callable[[Sequence[Operation]], object]
    ) -> None:
        self._number = number
        self._ids = ids
        self._random = random.Random(f"{seed} {number}")
        self._announce = announce
        self._written = 0

    @abstractmethod
    def act(self) -> list[Operation]:
        """Do one thing; return the operations that it came to, one for each message concerned."""

    @abstractmethod
    def look(self) -> list[Operation]:
        """Read every message."""

    @abstractmethod
    def _noted(self, message_id: str, call: Call, result: Result) -> object:
        """Return what a call came to, in the model's terms.

        :raises StorageError: it's none that the call may answer with
        """

    def _batch(self, calls: Sequence[tuple[str, Call]], perform: Callable[[], Sequence[Result]]) -> list[Operation]:
        """Do several things in one call of the store, which has a result for each."""
        self._begin(calls)
        had = timed(perform)
        if had is None:
            return []
        if isinstance(had.result, Open):
            return [Operation(self._number, each, call, OPEN, had.began, None) for each, call in calls]
        assert len(calls) == len(had.result), f"{calls} in a batch came to {had.result}"
        done: list[Operation] = []
        for (message_id, call), result in zip(calls, had.result, strict=True):
            if isinstance(result, (BackendUnavailableError, DeadlineExceededError)):
                if outcome_is_unknown(result):
                    done.append(Operation(self._number, message_id, call, OPEN, had.began, None))
            else:
                noted = self._noted(message_id, call, result)
                done.append(Operation(self._number, message_id, call, noted, had.began, had.ended))
        return done

    def _begin(self, calls: Sequence[tuple[str, Call]]) -> None:
        now = time.monotonic_ns()
        self._announce([Operation(self._number, each, call, OPEN, now, None) for each, call in calls])

    def _any_id(self) -> str:
        return self._random.choice(self._ids)

    def _content(self) -> str:
        """Return a content that nobody else writes."""
        self._written += 1
        return f"{self._number}-{self._written}"


def wait_until(moment: int) -> None:
    """Wait for a moment of the monotonic clock, so that processes begin together."""
    while (left := moment - time.monotonic_ns()) > 0:
        if left > _SPIN_NS:
            threading.Event().wait((left - _SPIN_NS) / 1e9)


def in_threads(clients: Sequence[Callable[[], Sequence[Operation]]], times: int) -> list[Operation]:
    """Let each client act so often, all of them at the same time; return what they did."""
    barrier = threading.Barrier(len(clients))

    def run(act: Callable[[], Sequence[Operation]]) -> Sequence[Operation]:
        barrier.wait()
        with _stumbling():
            return [operation for _ in range(times) for operation in act()]

    with ThreadPoolExecutor(len(clients)) as pool:
        return [operation for done in pool.map(run, clients) for operation in done]


@contextmanager
def _stumbling() -> Generator[None]:
    """Let this thread pause now and then at any call of a function, and others go on.

    A store in memory is done with a call before another thread has its turn; what isn't atomic in it would look so.
    """
    chance = random.Random()

    def stumble(_frame: object, _event: str, _arg: object) -> None:
        if chance.random() < _STUMBLES:
            time.sleep(_STUMBLE_S)

    before = sys.getprofile()
    sys.setprofile(stumble)
    try:
        yield
    finally:
        sys.setprofile(before)


def by_message(operations: Iterable[Operation]) -> Mapping[str, Sequence[Operation]]:
    """Return the operations on each message."""
    found: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        found[operation.message_id].append(operation)
    return found


def table(operations: Iterable[Operation], ordered: frozenset[Operation]) -> str:
    """Show the operations on a message as they began; those that the longest order left out are marked with `>`."""
    in_order = sorted(operations, key=lambda operation: operation.began)
    start = in_order[0].began if in_order else 0
    rows = [("", "client", "began", "ended", "operation", "result")]
    for each in in_order:
        mark = "" if each in ordered or each.ended is None else ">"
        ended = "open" if each.ended is None else _ms(each.ended - start)
        rows.append((mark, str(each.client), _ms(each.began - start), ended, str(each.call), str(each.result)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.3f}"
