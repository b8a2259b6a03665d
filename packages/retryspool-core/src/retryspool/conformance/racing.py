"""Threads that start at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from retryspool.errors import StorageError

__all__ = ["race"]

Result = TypeVar("Result")


def race(racers: int, run: Callable[[int], Result]) -> list[Result | StorageError]:
    """Call `run(0)` … `run(racers - 1)`, each in a thread of its own; return what each returned or refused."""
    barrier = threading.Barrier(racers)

    def racer(number: int) -> Result | StorageError:
        barrier.wait()
        try:
            return run(number)
        except StorageError as error:
            return error

    with ThreadPoolExecutor(racers) as pool:
        return list(pool.map(racer, range(racers)))
