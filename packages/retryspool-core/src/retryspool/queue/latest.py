"""What a function returned last, for those who mustn't wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from retryspool.deadline import deadline

__all__ = ["Latest", "Reading"]

Value = TypeVar("Value")

_SHARE = 20
"""A call that takes long is made more seldom: it takes this part of the time at the most."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[Value]):
    """What is known."""

    value: Value | None
    """What the last call that succeeded returned; None if none has yet."""
    age_s: float | None
    """How long ago that call began; None if there was none."""
    error: Exception | None
    """Why the last call failed; None if it didn't."""
    pending_s: float
    """For how long a call has been under way; 0 if none is."""


class Latest(Generic[Value]):
    """Calls a function in the background when somebody asks, and the last result is too old. Safe to share.

    One call is made at a time: if it hangs, one thread hangs, and all others go on with what is known. They wait for a
    call only while it's young.

    :param function: what is called, within the deadline
    :param max_age_s: how old a result may be
    :param deadline_s: the limit for a call, which backends of the network heed
    """

    def __init__(self, function: Callable[[], Value], *, max_age_s: float = 5.0, deadline_s: float = 5.0) -> None:
        self._function = function
        self._max_age_s = max_age_s
        self._deadline_s = deadline_s
        self._changed = threading.Condition()  # of all below
        self._value: Value | None = None
        self._began: float | None = None
        self._error: Exception | None = None
        self._calls_again_at = 0.0
        self._is_calling = False
        self._called_at = 0.0

    def get(self, wait_s: float = 1.0) -> Reading[Value]:
        """Return what is known, after waiting for it to be renewed if it's too old.

        :param wait_s: for so long at the most since its call began
        """
        with self._changed:
            if not self._is_calling and time.monotonic() >= self._calls_again_at:
                self._is_calling, self._called_at = True, time.monotonic()
                threading.Thread(target=self._call, name="retryspool-latest", daemon=True).start()
            left_s = self._called_at + wait_s - time.monotonic()
            self._changed.wait_for(lambda: not self._is_calling, max(0.0, left_s))
            now = time.monotonic()
            age_s = None if self._began is None else now - self._began
            return Reading(self._value, age_s, self._error, now - self._called_at if self._is_calling else 0.0)

    def _call(self) -> None:
        began = time.monotonic()
        pause_s = self._max_age_s
        try:
            with deadline(self._deadline_s):
                value = self._function()
        except Exception as error:  # noqa: BLE001 -- it's told to whoever asks
            with self._changed:
                self._error = error
        else:
            pause_s = max(pause_s, (time.monotonic() - began) * _SHARE)
            with self._changed:
                self._value, self._began, self._error = value, began, None
        finally:
            with self._changed:
                self._calls_again_at = time.monotonic() + pause_s
                self._is_calling = False
                self._changed.notify_all()
