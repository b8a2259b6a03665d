"""SIGTERM and SIGINT, as something to wait for."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType

__all__ = ["next_event", "signals_into"]

_WAKE_S = 0.25


@contextmanager
def signals_into(received: SimpleQueue[int | None]) -> Generator[None]:
    """Put the numbers of SIGTERM and SIGINT into `received`, inside the block; nothing outside of the main thread.

    It is a `SimpleQueue` because that may be written to from a signal handler, which `Event.set()` may not.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def receive(number: int, _frame: FrameType | None) -> None:
        received.put(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def next_event(received: SimpleQueue[int | None], timeout_s: float = math.inf) -> int | None:
    """Wait for the next of `received`.

    Python handles a signal between two of its own instructions. One that comes after the last of these and before the
    thread sleeps doesn't wake it, so it must wake now and then by itself.

    :raises Empty: nothing came in time
    """
    until = time.monotonic() + timeout_s
    while True:
        left = until - time.monotonic()
        try:
            return received.get(timeout=max(0.0, min(left, _WAKE_S)))
        except Empty:
            if left <= 0:
                raise
