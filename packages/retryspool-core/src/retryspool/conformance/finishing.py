"""Calls that must come to an end: one that hangs fails its test, not the whole run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic
from typing import Generic, TypeVar

__all__ = ["PATIENCE_S", "Running", "eventually", "finish"]

PATIENCE_S = 30.0
"""How long a call may take that nothing keeps from ending."""

_PAUSE_S = 0.01

Result = TypeVar("Result")


class Running(Generic[Result]):
    """A call under way in a thread of its own, with the deadline of the caller."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._results: list[Result] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001 -- raised again where it's waited for
            self._errors.append(error)

    @property
    def is_over(self) -> bool:
        """Whether it has returned or raised."""
        return not self._thread.is_alive()

    def result(self, within_s: float = PATIENCE_S) -> Result:
        """Return what it returns, or raise what it raises.

        :raises AssertionError: it's still under way after `within_s` seconds
        """
        self._thread.join(within_s)
        assert self.is_over, f"it hasn't come to an end within {within_s} s"
        for error in self._errors:
            raise error
        return self._results[0]


def finish(call: Callable[[], Result], within_s: float = PATIENCE_S) -> Result:
    """Return what a call returns, or raise what it raises.

    :raises AssertionError: it's still under way after `within_s` seconds
    """
    return Running(call).result(within_s)


def eventually(call: Callable[[], Result], within_s: float = PATIENCE_S) -> Result:
    """Make a call again and again until it returns something that is true; return that.

    :raises AssertionError: it hasn't within `within_s` seconds
    """
    until = monotonic() + within_s
    while not (result := call()):
        assert monotonic() < until, f"it still returns {result!r} after {within_s} s"
        threading.Event().wait(_PAUSE_S)
    return result
