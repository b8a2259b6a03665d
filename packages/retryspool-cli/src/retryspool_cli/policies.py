"""Retry policies as they are written on the command line and in `retryspool.toml`.

| written | waits |
| --- | --- |
| `fixed:30s` | 30 seconds after each failure |
| `schedule:1m,5m,1h` | one minute, five, then an hour each time |
| `exponential:1s,2,1h` | one second, then twice as long each time, up to an hour; factor 2 and cap 24 h if left out |

Each may end in `,jitter=0.2`: how much of a delay it may be shorter or longer; 0.1 if it isn't said.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.values import parse_duration

if TYPE_CHECKING:
    from retryspool.queue import RetryPolicy

__all__ = ["looks_like_policy", "parse_policies", "parse_policy"]


def looks_like_policy(text: str) -> bool:
    """Tell a policy that is written out from the name of one."""
    return ":" in text


def parse_policies(written: Mapping[str, str]) -> dict[str, RetryPolicy]:
    """Return the policies by name.

    :raises WrongUsageError: one of them isn't right
    """
    return {name: parse_policy(text, name) for name, text in written.items()}


def parse_policy(text: str, name: str = "") -> RetryPolicy:
    """Return the policy that a text describes.

    :raises WrongUsageError: it doesn't describe one
    """
    from retryspool import InvalidOptionError

    title = f"retry policy {name!r} is {text!r}" if name else f"retry policy {text!r}"
    try:
        return _parse(text)
    except (ValueError, InvalidOptionError) as error:
        msg = f"{title}: {error}; write fixed:30s, schedule:1m,5m,1h or exponential:1s,2,1h"
        raise WrongUsageError(msg) from None


def _parse(text: str) -> RetryPolicy:
    from retryspool.queue import ExponentialRetry, FixedRetry, ScheduledRetry

    kind, _, rest = text.partition(":")
    items = [item.strip() for item in rest.split(",")]
    jitter = 0.1
    if items[-1].startswith("jitter="):
        jitter = float(items.pop().removeprefix("jitter="))
    match kind, items:
        case "fixed", [interval]:
            return FixedRetry(_seconds(interval), jitter)
        case "schedule", [_, *_]:
            return ScheduledRetry(tuple(_seconds(item) for item in items), jitter)
        case "exponential", [base]:
            return ExponentialRetry(_seconds(base), jitter=jitter)
        case "exponential", [base, factor]:
            return ExponentialRetry(_seconds(base), float(factor), jitter=jitter)
        case "exponential", [base, factor, cap]:
            return ExponentialRetry(_seconds(base), float(factor), _seconds(cap), jitter)
        case _:
            msg = "it isn't of a kind that there is"
            raise ValueError(msg)


def _seconds(text: str) -> float:
    return parse_duration(text).total_seconds()
