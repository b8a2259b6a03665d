"""Routes: what the limits of a destination are, and which of them apply to which.

The ideas are those of Postfix's queue manager (its SCHEDULER_README): a window that opens slowly and closes quickly,
failures counted by cohorts, and destinations that count as dead for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal

from retryspool.errors import InvalidOptionError
from retryspool.queue.rates import Rate

__all__ = ["RouteOptions", "RouteState", "RouteStatus", "RouteTable"]

RouteState = Literal["open", "resting", "probing"]
"""`resting` while it's left alone, `probing` from then until one message has told whether it answers again."""

_DAY_S = 24 * 3600

_RANGES: dict[str, tuple[float, float, str]] = {
    "concurrency": (1, 10_000, "an integer"),
    "initial_concurrency": (1, 10_000, "an integer"),
    "dead_after": (0.1, 1000, "a number of cohorts"),
    "rest_s": (0.1, _DAY_S, "a number of seconds"),
    "rest_factor": (1, 100, "a number"),
    "rest_cap_s": (0.1, _DAY_S, "a number of seconds"),
    "rest_jitter": (0, 1, "a number"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """How much of a worker one destination may have, and when it's left alone. Each worker counts for itself.

    :raises InvalidOptionError: a value is outside its range
    """

    concurrency: int = 20
    """The most deliveries at once; 1 to 10,000."""
    initial_concurrency: int = 5
    """How many at once it begins with, at the most `concurrency`: each success allows one more, each failure one less;
    1 to 10,000."""
    dead_after: float = 1
    """So many cohorts of failures in a row, and it counts as dead: a cohort is as many as were allowed at once when
    they began, and five at the least; 0.1 to 1,000."""
    rest_s: float = 60
    """How long a dead destination is left alone before one message is tried again, in seconds; 0.1 s to 24 h."""
    rest_factor: float = 2
    """By how much each rest is longer than the last, while none of these messages gets through; 1 to 100."""
    rest_cap_s: float = 3600
    """The longest rest, in seconds, before jitter; 0.1 s to 24 h."""
    rest_jitter: float = 0.1
    """The share of a rest by which it may be shorter or longer; 0 for none, up to 1."""
    rate: str | None = None
    """At most so many deliveries are begun in any such span: `10/minute`, `5/second`, `1000/day`, `100/30s`."""

    def __post_init__(self) -> None:
        for name in _RANGES:
            _check(name, getattr(self, name))
        if self.rate is not None:
            Rate.parse(self.rate)


def _check(name: str, value: object) -> None:
    lowest, highest, what = _RANGES[name]
    kind = int if what == "an integer" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value <= highest:
        msg = f"{name} is {value!r}; it must be {what} between {lowest:,} and {highest:,}"
        raise InvalidOptionError(msg)


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """What a worker knows of a destination, at one moment."""

    route: str
    state: RouteState
    window: int | None
    """How many deliveries may run at once; None without a limit."""
    running: int
    waiting: int
    """Messages that this worker has claimed and that haven't begun."""
    resting_until: datetime | None
    last_error: str
    """The last failure that was the destination's, empty while there's none since it last answered."""


class RouteTable:
    """Options by route: an exact name first, then the patterns in order, then the defaults.

    Messages without a route aren't limited, unless there are options for the empty name.

    :raises InvalidOptionError: options for a route aren't `RouteOptions`
    """

    def __init__(self, options: Mapping[str, RouteOptions]) -> None:
        for pattern, each in options.items():
            if not isinstance(each, RouteOptions):  # pyright: ignore[reportUnnecessaryIsInstance]
                msg = f"routes[{pattern!r}] is {each!r}; it must be RouteOptions(…)"
                raise InvalidOptionError(msg)
        self._exact = dict(options)
        self._patterns = [(pattern, each) for pattern, each in options.items() if set(pattern) & set("*?[")]
        self._default = RouteOptions()

    def options_for(self, route: str) -> RouteOptions | None:
        """Return the options for a route; None if it isn't limited."""
        exact = self._exact.get(route)
        if exact is not None or not route:
            return exact
        return next((each for pattern, each in self._patterns if fnmatchcase(route, pattern)), self._default)
