"""Losses: deliveries of which nothing was heard again, since their worker died or lost its lease.

They show by the numbers of a claimed record: deliveries are counted as they begin, and their ends are known. Where
several messages were under way in one process, nobody can tell of which of them it died. So there's a mark for the
delivery that was begun alone: a message is given up for its losses only if that one was lost too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from retryspool.model import MessageMetadata, State

__all__ = [
    "ALONE_HEADER",
    "HEARD_HEADER",
    "begun_alone",
    "count_losses",
    "heard_of",
    "was_lost_alone",
    "without_losses",
]

ALONE_HEADER = "x-retryspool-alone"
"""The number of the delivery that was begun while nothing else was under way in its worker."""
HEARD_HEADER = "x-retryspool-heard"
"""The number of the last delivery that came to an end, where some before it were lost: those don't count any more."""

_DIGITS = 18


def count_losses(claimed: MessageMetadata) -> int:
    """Return of how many deliveries in a row, up to the one that was just begun, nothing was heard."""
    if claimed.deliveries <= 1:
        return 0
    ended = 0 if claimed.claimed_from is State.BOUNCE else claimed.attempts
    text = claimed.headers.get(HEARD_HEADER, "")
    if text.isascii() and text.isdecimal() and len(text) <= _DIGITS:
        ended = max(ended, int(text))
    return max(0, claimed.deliveries - 1 - ended)


def was_lost_alone(claimed: MessageMetadata) -> bool:
    """Tell whether the delivery before the one that was just begun was begun alone."""
    return claimed.headers.get(ALONE_HEADER) == str(claimed.deliveries - 1)


def begun_alone(claimed: MessageMetadata) -> MessageMetadata:
    """Return it with a mark that this delivery is begun alone."""
    return replace(claimed, headers={**claimed.headers, ALONE_HEADER: str(claimed.deliveries)})


def heard_of(failed: MessageMetadata) -> MessageMetadata:
    """Return it as it's tried again: what was lost before this delivery doesn't count any more."""
    ended = 0 if failed.state is State.BOUNCE else failed.attempts
    if failed.deliveries <= ended:
        return failed
    return replace(failed, headers={**failed.headers, HEARD_HEADER: str(failed.deliveries)})


def without_losses(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return a message's headers without what is noted here."""
    if ALONE_HEADER not in headers and HEARD_HEADER not in headers:
        return headers
    return {name: value for name, value in headers.items() if name not in {ALONE_HEADER, HEARD_HEADER}}
