"""One call of each method, for what all of them promise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from retryspool.meta import Delete, ListOptions, MetaBackend, Move, StateCounter, Store, Update
from retryspool.model import MessageMetadata, State

__all__ = ["CALLS", "COUNTS", "READS", "SEED"]

_HOUR = timedelta(hours=1)
_HELD = MessageMetadata("held", state=State.ACTIVE, version=1)

SEED = (MessageMetadata("a"), MessageMetadata("held", state=State.ACTIVE))
"""What the store holds before: the calls have something to do."""

_WRITES: dict[str, Callable[[MetaBackend], object]] = {
    "store": lambda meta: meta.store_meta("new", MessageMetadata("new")),
    "store again": lambda meta: meta.store_meta("a", MessageMetadata("a")),
    "update": lambda meta: meta.update_meta("a", MessageMetadata("a", size=1)),
    "update a version": lambda meta: meta.update_meta("a", MessageMetadata("a", size=1), if_version=1),
    "update what is missing": lambda meta: meta.update_meta("x", MessageMetadata("x")),
    "delete": lambda meta: meta.delete_meta("a"),
    "delete a version": lambda meta: meta.delete_meta("a", if_version=1),
    "move": lambda meta: meta.move_to_state("a", State.INCOMING, State.HOLD),
    "look": lambda meta: meta.move_to_state("a", State.INCOMING, State.INCOMING),
    "claim": lambda meta: meta.claim([State.INCOMING], limit=9, lease=_HOUR, owner="w"),
    "renew": lambda meta: meta.renew([_HELD], lease=_HOUR),
    "apply a store": lambda meta: meta.apply([Store(MessageMetadata("new"))]),
    "apply an update": lambda meta: meta.apply([Update(MessageMetadata("a", size=1))]),
    "apply a move": lambda meta: meta.apply([Move("a", State.INCOMING, State.HOLD)]),
    "apply a deletion": lambda meta: meta.apply([Delete("a")]),
    "apply several": lambda meta: meta.apply([Delete("a"), Store(MessageMetadata("new")), Delete("held")]),
}

READS: dict[str, Callable[[MetaBackend], object]] = {
    "get": lambda meta: meta.get_meta("a"),
    "list": lambda meta: meta.list_messages(State.INCOMING),
    "count": lambda meta: meta.list_messages(State.INCOMING, ListOptions(limit=0)),
    "iterate": lambda meta: list(meta.iter_messages(State.INCOMING)),
    "wait": lambda meta: meta.wait_for_change(0.01),
    "check": lambda meta: list(meta.check()),
}

CALLS = {**_WRITES, **READS}
"""By name: each does something if nothing keeps it from that."""

COUNTS: dict[str, Callable[[StateCounter], object]] = {
    "state count": lambda counter: counter.get_state_count(State.INCOMING),
    "oldest due": lambda counter: counter.get_oldest_due(State.INCOMING),
}
"""Those that not every backend has."""
