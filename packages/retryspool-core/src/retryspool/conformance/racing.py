"""Threads that start at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TypeVar

from retryspool.conformance.finishing import Running
from retryspool.errors import StorageError

__all__ = ["LONGEST_RACE_S", "race"]

LONGEST_RACE_S = 300.0
"""How long a race may take, by a slow store and the largest profile."""

Result = TypeVar("Result")


def race(racers: int, run: Callable[[int], Result], within_s: float = LONGEST_RACE_S) -> list[Result | StorageError]:
    """Call `run(0)` … `run(racers - 1)`, each in a thread of its own; return what each returned or refused.

    :raises AssertionError: one is still under way after `within_s` seconds
    """
    barrier = threading.Barrier(racers)

    def racer(number: int) -> Result | StorageError:
        barrier.wait()
        try:
            return run(number)
        except StorageError as error:
            return error

    until = monotonic() + within_s
    running = [Running(partial(racer, number)) for number in range(racers)]
    return [each.result(max(0.0, until - monotonic())) for each in running]
