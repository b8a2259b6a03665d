"""Retry policies: how long a message waits after a failure.

Each spreads its delays by ±10 % unless told otherwise, as River does (`internal/retrypolicy/default.go` there), so that
messages that failed together don't come back together; see Brooker, "Exponential Backoff And Jitter" (AWS, 2015).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol, runtime_checkable

from retryspool.errors import InvalidOptionError

__all__ = ["DEFAULT_RETRY", "ExponentialRetry", "FixedRetry", "Policies", "RetryPolicy", "ScheduledRetry"]

_log = logging.getLogger(__name__)

_LONGEST_S = 3650 * 24 * 3600


def _spread(seconds: float, jitter: float) -> timedelta:
    return timedelta(seconds=seconds * random.uniform(1 - jitter, 1 + jitter))


def _check(name: str, value: float, lowest: float, highest: float) -> None:
    if not lowest <= value <= highest:
        msg = f"{name} is {value!r}; it must be between {lowest} and {highest}"
        raise InvalidOptionError(msg)


@runtime_checkable
class RetryPolicy(Protocol):
    """How long a message waits after a failure."""

    def delay(self, attempt: int, /) -> timedelta:
        """Return the delay after the `attempt`-th failure; the first is 1."""
        ...


@dataclass(frozen=True, slots=True)
class FixedRetry:
    """The same delay after each failure.

    :raises InvalidOptionError: a value is outside its range
    """

    interval_s: float
    """In seconds."""
    jitter: float = 0.1
    """The share of a delay by which it may be shorter or longer; 0 for none, up to 1."""

    def __post_init__(self) -> None:
        _check("interval_s", self.interval_s, 0, _LONGEST_S)
        _check("jitter", self.jitter, 0, 1)

    def delay(self, attempt: int) -> timedelta:  # noqa: ARG002 -- the same after each
        return _spread(self.interval_s, self.jitter)


@dataclass(frozen=True, slots=True)
class ScheduledRetry:
    """Delays from a list, the last of them from then on.

    :raises InvalidOptionError: a value is outside its range, or there's none
    """

    intervals_s: tuple[float, ...]
    """In seconds; the first follows the first failure."""
    jitter: float = 0.1
    """The share of a delay by which it may be shorter or longer; 0 for none, up to 1."""

    def __post_init__(self) -> None:
        if not self.intervals_s:
            msg = "intervals_s is empty; it must hold at least one delay in seconds"
            raise InvalidOptionError(msg)
        for interval_s in self.intervals_s:
            _check("intervals_s", interval_s, 0, _LONGEST_S)
        _check("jitter", self.jitter, 0, 1)

    def delay(self, attempt: int) -> timedelta:
        index = min(max(attempt, 1), len(self.intervals_s)) - 1
        return _spread(self.intervals_s[index], self.jitter)


@dataclass(frozen=True, slots=True)
class ExponentialRetry:
    """Delays that grow: `base_s`, then each `factor` times the last, up to `cap_s`.

    :raises InvalidOptionError: a value is outside its range
    """

    base_s: float = 60
    """The delay after the first failure, in seconds."""
    factor: float = 2
    """At least 1."""
    cap_s: float = 24 * 3600
    """The longest delay, in seconds, before jitter."""
    jitter: float = 0.1
    """The share of a delay by which it may be shorter or longer; 0 for none, up to 1."""

    def __post_init__(self) -> None:
        _check("base_s", self.base_s, 0, _LONGEST_S)
        _check("factor", self.factor, 1, 1000)
        _check("cap_s", self.cap_s, 0, _LONGEST_S)
        _check("jitter", self.jitter, 0, 1)

    def delay(self, attempt: int) -> timedelta:
        try:
            seconds = self.base_s * float(self.factor) ** (max(attempt, 1) - 1)
        except OverflowError:
            seconds = self.cap_s
        return _spread(min(seconds, self.cap_s), self.jitter)


DEFAULT_RETRY = ScheduledRetry((900, 1800, 3600, 7200, 14_400, 28_800, 57_600, 86_400))
"""15 and 30 minutes, 1, 2, 4, 8, 16 and 24 hours: the Go system's schedule, known by the name `exponential`."""


class Policies:
    """The policies that a queue knows, by name; `exponential` is always there.

    :raises InvalidOptionError: the default isn't among them
    """

    def __init__(self, named: Mapping[str, RetryPolicy], default: str) -> None:
        self._named: dict[str, RetryPolicy] = {"exponential": DEFAULT_RETRY, **named}
        self._missed: set[str] = set()
        self.default = self._named[self.require(default)]

    def require(self, name: str) -> str:
        """Return the name if there's a policy of that name.

        :raises InvalidOptionError: there's none
        """
        if name not in self._named:
            msg = f"retry_policy is {name!r}; it must be one of {', '.join(map(repr, self._named))}"
            raise InvalidOptionError(msg)
        return name

    def delay(self, name: str, attempt: int) -> timedelta:
        """Return the delay by the policy of that name; by the default if there's none, or if it fails."""
        policy = self._named.get(name, self.default)
        if name and name not in self._named and name not in self._missed:
            self._missed.add(name)
            _log.warning("retry policy %r is unknown here: its messages are retried by the default", name)
        try:
            return policy.delay(attempt) + timedelta(0)  # what isn't a timedelta fails here
        except Exception:  # noqa: BLE001 -- whatever a user's policy raises, the message has to be settled
            _log.exception(
                "retry policy %r failed for attempt %d: retrying by the schedule of 'exponential'", name, attempt
            )
            return DEFAULT_RETRY.delay(attempt)
