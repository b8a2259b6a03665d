"""The queue's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from retryspool.errors import InvalidOptionError

__all__ = ["QueueOptions", "QueueSettings", "check_range"]

_DAY_S = 24 * 3600

_RANGES: dict[str, tuple[int, int, str]] = {
    "max_attempts": (1, 1000, ""),
    "priority": (0, 100, ""),
    "concurrency": (1, 10_000, ""),
    "max_active": (1, 100_000, ""),
    "batch_size": (1, 10_000, ""),
    "max_lost_deliveries": (1, 1000, ""),
    "lease_s": (1, _DAY_S, " seconds"),
    "poll_s": (1, _DAY_S, " seconds"),
    "unhandled_delay_s": (1, _DAY_S, " seconds"),
    "prune_interval_s": (1, _DAY_S, " seconds"),
    "grace_s": (0, _DAY_S, " seconds"),
    "ageing": (0, 1, " of all claims"),
    "retention_s": (1, 36_500 * _DAY_S, " seconds"),
    "bounce_retention_s": (1, 36_500 * _DAY_S, " seconds"),
}
_NONE_IS_FOR_EVER = ("retention_s", "bounce_retention_s")
_CHOICES = {"on_success": ("delete", "archive"), "on_bounce": ("keep", "delete", "archive")}


class QueueSettings(TypedDict, total=False):
    """The fields of `QueueOptions`, as keyword arguments. A test keeps the two alike."""

    max_attempts: int
    priority: int
    retry_policy: str
    concurrency: int
    max_active: int
    batch_size: int
    ageing: float
    lease_s: float
    poll_s: float
    grace_s: float
    max_lost_deliveries: int
    unhandled_delay_s: float
    on_success: Literal["delete", "archive"]
    on_bounce: Literal["keep", "delete", "archive"]
    retention_s: float | None
    bounce_retention_s: float | None
    prune_interval_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """The queue's settings: for messages that don't bring their own, and for the worker.

    :raises InvalidOptionError: a value is outside its range
    """

    max_attempts: int = 10
    """So many failures, and a message bounces; 1 to 1,000."""
    priority: int = 5
    """0 to 100; 1 goes before 5."""
    retry_policy: str = "exponential"
    """The name of the policy for messages that name none."""

    concurrency: int = 8
    """Handlers that run at once; 1 to 10,000."""
    max_active: int = 1000
    """Messages claimed at once: running, about to run, or about to be settled; 1 to 100,000."""
    batch_size: int = 100
    """Messages claimed or settled in one go; 1 to 10,000."""
    ageing: float = 0.1
    """The share of claims that take the oldest due whatever its priority, so that none waits for ever; 0 to 1."""
    lease_s: float = 60
    """How long a claimed message stays this worker's if it dies, in seconds; 1 s to 24 h. While it lives it renews."""
    poll_s: float = 5
    """How long an idle worker waits at the most for something to tell it of work, in seconds; 1 s to 24 h."""
    grace_s: float = 30
    """How long `stop()` waits for handlers that run, in seconds; 0 to 24 h."""
    max_lost_deliveries: int = 5
    """So many deliveries in a row of which nothing was heard again (their worker died), and a message bounces; the last
    of them is handled alone, and never the first; 1 to 1,000."""
    unhandled_delay_s: float = 60
    """How long a message waits that no handler takes or whose payload can't be read, in seconds; 1 s to 24 h."""

    on_success: Literal["delete", "archive"] = "delete"
    """What becomes of a message that was handled."""
    on_bounce: Literal["keep", "delete", "archive"] = "keep"
    """What becomes of a bounced message that a bounce handler has handled."""
    retention_s: float | None = None
    """How long archived messages are kept, in seconds; for ever if None."""
    bounce_retention_s: float | None = None
    """How long bounced messages are kept, in seconds, handled or not; for ever if None."""
    prune_interval_s: float = 3600
    """How often a worker prunes archived and bounced messages, in seconds; 1 s to 24 h."""

    def __post_init__(self) -> None:
        for name in _RANGES:
            if name not in _NONE_IS_FOR_EVER or getattr(self, name) is not None:
                check_range(name, getattr(self, name))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                quoted = ", ".join(map(repr, choices))
                msg = f"{name} is {getattr(self, name)!r}; it must be one of {quoted}"
                raise InvalidOptionError(msg)


def check_range(name: str, value: object) -> None:
    """Check the value of an option.

    :raises InvalidOptionError: it's outside the option's range
    """
    lowest, highest, unit = _RANGES[name]
    kind = (int, float) if unit else int
    if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value <= highest:
        what = "a number" if unit else "an integer"
        msg = f"{name} is {value!r}; it must be {what} between {lowest} and {highest}{unit}"
        raise InvalidOptionError(msg)
