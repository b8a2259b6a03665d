"""Load on a store whose server goes down: who was told what, and so what must be there afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Hashable, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

from retryspool.conformance.attempts import HEALED_S, is_given_up, result_of
from retryspool.errors import BackendUnavailableError, StorageError

__all__ = ["Ledger", "loaded"]

_CALL_S = 1.0
_POLL_S = 0.01
_WARM_UP_S = 20

Value = TypeVar("Value", bound=Hashable)


class Ledger(Generic[Value]):
    """What one thread was told of its writes."""

    def __init__(self) -> None:
        self.possible: dict[str, set[Value | None]] = {}
        """What may be stored for each message; None: nothing."""
        self.wrong: list[str] = []
        """Errors that a server's failure must not become."""
        self.acknowledged = 0
        """How many writes returned."""

    def attempt(self, message_id: str, value: Value | None, write: Callable[[], object]) -> bool:
        """Try to make a message be stored like this; return whether that is known to be done."""
        before = self.possible.get(message_id, {None})
        self.possible[message_id] = {*before, value}
        result = result_of(write, limit_s=_CALL_S)
        if isinstance(result, StorageError):
            if isinstance(result, BackendUnavailableError) and result.outcome == "none":
                self.possible[message_id] = before
            if not is_given_up(result):
                self.wrong.append(f"{message_id}: {result!r}")
            return False
        self.possible[message_id] = {value}
        self.acknowledged += 1
        return True

    def compare(self, found: Mapping[str, Value]) -> list[str]:
        """Return what is wrong, given what is stored."""
        lost = {each: found.get(each) for each, possible in self.possible.items() if found.get(each) not in possible}
        return [*self.wrong, *(f"{each}: {was!r:.50}, not {self.possible[each]!r:.100}" for each, was in lost.items())]

    def wait_for_more(self, number: int, *, within_s: float, what: str) -> None:
        """Wait until so many more writes have returned.

        :raises AssertionError: they haven't in time
        """
        wanted = self.acknowledged + number
        until = time.monotonic() + within_s
        while self.acknowledged < wanted:
            assert time.monotonic() < until, f"{what}, no write has returned within {within_s} s"
            threading.Event().wait(_POLL_S)


@contextmanager
def loaded(
    ledgers: list[Ledger[Value]], step: Callable[[Ledger[Value], str], None], restart: Callable[[], None]
) -> Generator[Callable[[], None]]:
    """Let a thread for each ledger call `step(ledger, id)` within the block, over and over, with a new id each time.

    Yields what restarts the server, and returns once all threads work again.
    """
    stopping = threading.Event()

    def run(worker: int) -> None:
        number = 0
        while not stopping.is_set():
            step(ledgers[worker], f"w{worker}-{number}")
            number += 1

    def restart_under_load() -> None:
        for ledger in ledgers:
            ledger.wait_for_more(5, within_s=_WARM_UP_S, what="while the server runs")
        restart()
        for ledger in ledgers:
            ledger.wait_for_more(1, within_s=HEALED_S + _CALL_S, what="after the restart")

    threads = [threading.Thread(target=run, args=(worker,), daemon=True) for worker in range(len(ledgers))]
    for thread in threads:
        thread.start()
    try:
        yield restart_under_load
    finally:
        stopping.set()
        for thread in threads:
            thread.join(_WARM_UP_S)
