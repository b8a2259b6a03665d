"""The backlog: how many messages a store has in each state, and for how long the oldest of them has been due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from retryspool.errors import MessageNotFoundError
from retryspool.meta import ListOptions, MetaBackend, SortBy, StateCounter
from retryspool.model import ZERO_TIME, MessageMetadata, State, utc_now

__all__ = ["DUE_STATES", "Backlog", "read_backlog", "waited_s"]

DUE_STATES = (State.INCOMING, State.ACTIVE, State.DEFERRED, State.BOUNCE)
"""The states whose messages are due at some time: an active one when its lease expires."""

_AT_ONCE = 10
"""So many of those that are listed are looked at."""
_MANY = 20_000
"""A listing of more than that takes too long on some stores: a part is looked at instead."""
_SAMPLE = 1000
"""How many. Of so many the oldest is about as old as the oldest of all."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a store had, at one moment."""

    counts: Mapping[State, int]
    """Messages by state."""
    overdue_s: Mapping[State, float]
    """For how long the oldest message of a state has been due, in seconds; 0 if none is. Empty if the metadata backend
    can't say without reading all records."""


def read_backlog(meta: MetaBackend) -> Backlog:
    """Read it from the store.

    If the backend is a `StateCounter`, the cost doesn't grow with the queue, except where up to 20,000 messages wait
    that are due at once: of those the oldest is listed. Of more a thousand are looked at; what's told is a little less.
    """
    if not isinstance(meta, StateCounter):
        return Backlog({state: meta.list_messages(state, ListOptions(limit=0)).total for state in State}, {})
    counts = {state: meta.get_state_count(state) for state in State}
    due = {state: _due_since(meta, state, meta.get_oldest_due(state), counts[state]) for state in DUE_STATES}
    now = utc_now()
    overdue = {state: 0.0 if time is None else max(0.0, (now - time).total_seconds()) for state, time in due.items()}
    return Backlog(counts, overdue)


def _due_since(meta: MetaBackend, state: State, oldest: datetime | None, count: int) -> datetime | None:
    """Return since when the oldest message is due: one that's due at once, since it was last written."""
    if oldest != ZERO_TIME:
        return oldest
    records = _listed(meta, state) if count <= _MANY else islice(meta.iter_messages(state), _SAMPLE)
    return min((each.updated for each in records if each.state is state and each.next_retry == ZERO_TIME), default=None)


def _listed(meta: MetaBackend, state: State) -> Iterator[MessageMetadata]:
    """Yield those that are due first; ids that sort by time put the oldest of those due at once before the others."""
    for message_id in meta.list_messages(state, ListOptions(limit=_AT_ONCE, sort_by=SortBy.NEXT_RETRY)).message_ids:
        with suppress(MessageNotFoundError):  # it's done since
            yield meta.get_meta(message_id)


def waited_s(claimed: MessageMetadata) -> float | None:
    """Return for how long a message that was claimed has been due, in seconds; None if its record doesn't tell."""
    due = claimed.next_retry
    if due == ZERO_TIME:
        if claimed.claimed_from is not State.INCOMING:
            return None
        due = claimed.created
    return max(0.0, (utc_now() - due).total_seconds())
