"""What tests of records do again and again, in a word each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from retryspool.conformance.finishing import PATIENCE_S
from retryspool.errors import MessageNotFoundError, StorageError
from retryspool.meta import ListOptions, MetaBackend, Store
from retryspool.model import MessageMetadata, State

__all__ = [
    "HOUR",
    "MOMENT",
    "WORK",
    "claim",
    "fill",
    "forget",
    "ids",
    "populated",
    "record_of",
    "renewed",
    "store",
    "wait_until",
]

HOUR = timedelta(hours=1)
MOMENT = timedelta(milliseconds=50)
"""A lease that is over soon."""
WORK = (State.INCOMING, State.DEFERRED)

_BATCH = 100


def store(meta: MetaBackend, message_id: str, **fields: Any) -> MessageMetadata:
    """Create a record with these fields."""
    return meta.store_meta(message_id, replace(MessageMetadata(message_id), **fields))


def fill(meta: MetaBackend, names: Iterable[str], **fields: Any) -> list[MessageMetadata]:
    """Create many records with these fields, in few round trips."""
    writes = [Store(replace(MessageMetadata(name), **fields)) for name in names]
    return [
        record_of(result)
        for first in range(0, len(writes), _BATCH)
        for result in meta.apply(writes[first : first + _BATCH])
    ]


def claim(
    meta: MetaBackend,
    *sources: State,
    limit: int = 100,
    lease: timedelta = HOUR,
    owner: str = "w1",
    exclude_routes: Collection[str] = (),
) -> list[MessageMetadata]:
    """Claim, from incoming and deferred ones where nothing else is said."""
    return meta.claim(sources or WORK, limit=limit, lease=lease, owner=owner, exclude_routes=exclude_routes)


def renewed(meta: MetaBackend, claims: Sequence[MessageMetadata], lease: timedelta = HOUR) -> list[MessageMetadata]:
    """Renew claims that are all still held."""
    return [record_of(result) for result in meta.renew(claims, lease=lease)]


def record_of(result: MessageMetadata | StorageError | None) -> MessageMetadata:
    """Return the result of one of a batch, which must be a record."""
    assert isinstance(result, MessageMetadata), f"{result!r} is no record"
    return result


def ids(found: Iterable[MessageMetadata]) -> list[str]:
    """Return the ids, in order."""
    return [record.id for record in found]


def populated(meta: MetaBackend) -> dict[State, list[str]]:
    """Return the states that hold messages, and their ids: as listed, as counted and as iterated."""
    found: dict[State, list[str]] = {}
    for state in State:
        iterated = list(meta.iter_messages(state))
        listed = meta.list_messages(state, ListOptions(limit=len(iterated) + 1))
        assert sorted(listed.message_ids) == sorted(ids(iterated)), f"{state} is listed otherwise than iterated"
        assert len(iterated) == listed.total, f"{state} is counted otherwise than iterated"
        assert {state} >= {record.state for record in iterated}, f"a record of another state is in {state}"
        if iterated:
            found[state] = sorted(ids(iterated))
    return found


def forget(meta: MetaBackend, names: Iterable[str]) -> None:
    """Delete what there is of these, so that the next example finds none of them."""
    for name in names:
        with suppress(MessageNotFoundError):
            meta.delete_meta(name)


def wait_until(clock: Callable[[], datetime], time: datetime, within_s: float = PATIENCE_S) -> None:
    """Return once it is later than `time` by this clock.

    :raises AssertionError: that isn't so after `within_s` seconds
    """
    limit = monotonic() + within_s
    while (now := clock()) <= time:
        assert monotonic() < limit, f"it is {now} by the store's clock, and {time} was expected within {within_s} s"
        threading.Event().wait(min(0.05, (time - now).total_seconds() + 0.001))
