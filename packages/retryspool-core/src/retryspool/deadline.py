"""A limit on the time that the calls inside a block may take.

.. code-block:: python

    with retryspool.deadline(2.0):
        spool.get(message_id)          # DeadlineExceededError after two seconds, wherever it hangs

The limit belongs to the context (thread or task), nests, and can only be tightened.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from retryspool.errors import DeadlineExceededError, InvalidOptionError

__all__ = ["check_deadline", "deadline", "remaining"]

_expires: ContextVar[float | None] = ContextVar("retryspool_deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Bound every call inside the block to `seconds` from now; an outer limit that is nearer stays.

    :raises InvalidOptionError: `seconds` isn't a number of at least 0
    """
    if not seconds >= 0:
        msg = f"deadline is {seconds!r}; it must be a number of seconds of at least 0"
        raise InvalidOptionError(msg)
    outer = _expires.get()
    own = time.monotonic() + seconds
    token = _expires.set(own if outer is None else min(outer, own))
    try:
        yield
    finally:
        _expires.reset(token)


def remaining() -> float | None:
    """Return the seconds that are left, 0 once they are over, None without a limit; never more than a lock can wait."""
    expires = _expires.get()
    return None if expires is None else min(max(0.0, expires - time.monotonic()), threading.TIMEOUT_MAX)


def check_deadline() -> None:
    """Do nothing while there's time. Backends call it before any effect.

    :raises DeadlineExceededError: the time is over
    """
    expires = _expires.get()
    if expires is not None and time.monotonic() >= expires:
        msg = "the deadline has passed; nothing was changed"
        raise DeadlineExceededError(msg)
