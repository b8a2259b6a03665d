"""Rates: at most so many starts in any such span."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Self

from retryspool.errors import InvalidOptionError

__all__ = ["Pace", "Rate"]

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_RATE = re.compile(r"(\d{1,9})/(\d{1,9}(?=[smhd]\Z))?(second|minute|hour|day|[smhd])", re.ASCII)
_MOST = 100_000
_LONGEST_S = 86_400


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` starts in any `per_s` seconds.

    :raises InvalidOptionError: a value is outside its range
    """

    count: int
    """1 to 100,000."""
    per_s: int
    """In seconds, up to a day."""

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MOST or not 1 <= self.per_s <= _LONGEST_S:
            msg = f"rate is {self}; it must be 1 to {_MOST} in a span of 1 second to a day"
            raise InvalidOptionError(msg)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rate that is written `10/minute`, `5/second` or `100/30s`.

        :raises InvalidOptionError: it isn't one
        """
        found = _RATE.fullmatch(text)
        if found is None:
            msg = f"rate is {text!r}; it must be a number and a span: 10/minute, 5/second, 1000/day, 100/30s"
            raise InvalidOptionError(msg)
        return cls(int(found[1]), int(found[2] or 1) * _UNITS_S[found[3]])

    def __str__(self) -> str:
        return f"{self.count}/{self.per_s}s"


class Pace:
    """The starts of the last span, by the monotonic clock: what a rate is kept by."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._starts: deque[float] = deque(maxlen=rate.count)

    def left(self, now: float) -> int:
        """Return how many may start now."""
        starts = self._starts
        while starts and starts[0] + self._rate.per_s <= now:  # as next_at() reckons: else one could wait for ever
            starts.popleft()
        return self._rate.count - len(starts)

    def started(self, now: float) -> None:
        """Take note of a start."""
        self._starts.append(now)

    def next_at(self) -> float:
        """Return when the next may start, where none may now."""
        return self._starts[0] + self._rate.per_s

    @property
    def is_idle(self) -> bool:
        """Whether nothing has started in the last span, as far as `left()` has looked."""
        return not self._starts
