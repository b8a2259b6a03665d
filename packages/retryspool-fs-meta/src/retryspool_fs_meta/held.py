"""What claims do about messages that others have locked."""

from __future__ import annotations

import time

from retryspool.files import StripedLocks

__all__ = ["HeldStripes"]

_PATIENCE_S = 5.0
_PASSED_OVER_S = 1.0
_MOMENT_S = 0.02


class HeldStripes:
    """The stripes that a claim didn't get.

    A stripe that somebody uses all the time may be held whenever a claim looks, and its messages would starve. So who
    has passed one over for a second waits for it, once a second and for a moment, in which who is only busy lets go.
    """

    def __init__(self, locks: StripedLocks) -> None:
        self._locks = locks
        self._since: dict[int, float] = {}
        self.patience_s = min(_PATIENCE_S, locks.timeout_s / 3)
        """How long a claim that finds only what is locked waits for it."""

    def take(self, stripe: int) -> bool:
        """Take a stripe that is free, or will be in a moment if it was passed over for too long; tell whether."""
        if self._locks.try_acquire(stripe) or self._waited(stripe):
            if self._since:
                self._since.pop(stripe, None)
            return True
        return False

    def _waited(self, stripe: int) -> bool:
        now = time.monotonic()
        if now - self._since.setdefault(stripe, now) < _PASSED_OVER_S or self._locks.is_stuck(stripe):
            return False
        self._since[stripe] = now
        return self._locks.try_for(stripe, _MOMENT_S)
