"""SIGTERM and SIGINT, as something to wait for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

__all__ = ["signals_into"]


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
