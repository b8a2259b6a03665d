"""How a message on its way between two stores is marked in both, so that a run that was cut off can be finished.

On its way it is `ACTIVE` in both, under a lease that never ends and as if it had been claimed from `HOLD`, which no
worker claims from: so it's delivered by neither. A header of RetrySpool's own says which state it is to have, and where
it comes from or goes to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import uuid4

from retryspool.meta import MetaBackend, NoteKeeper
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["ARRIVING", "LEAVING", "Mark", "mark_of", "marked", "store_id", "unmarked"]

ARRIVING = "x-retryspool-arriving"
"""The header of a message in the store that it comes to."""
LEAVING = "x-retryspool-leaving"
"""The header of a message in the store that it goes from, once it's safe in the other."""

_OWNER = "migration"
_STORE_ID = "store.id"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the header says."""

    state: State
    """The state that the message has, but for being on its way."""
    store: str
    """The other store's id."""


def marked(record: MessageMetadata, header: str, mark: Mark) -> MessageMetadata:
    """Return the record as it is on its way."""
    return replace(
        record,
        state=State.ACTIVE,
        lease_owner=_OWNER,
        lease_expires=NEVER,
        claimed_from=State.HOLD,
        headers={**record.headers, header: f"{mark.state.label} {mark.store}"},
    )


def mark_of(record: MessageMetadata, header: str) -> Mark | None:
    """Return the record's mark; None if it has none, or was taken out of its state by force."""
    if record.state is not State.ACTIVE or header not in record.headers or record.lease_owner != _OWNER:
        return None
    label, _, store = record.headers[header].partition(" ")
    return Mark(State.from_label(label), store)


def unmarked(record: MessageMetadata, header: str, mark: Mark) -> MessageMetadata:
    """Return the record as it is in its own state, not on its way any more."""
    return replace(
        record,
        state=mark.state,
        lease_owner="",
        lease_expires=ZERO_TIME,
        claimed_from=None,
        headers={name: value for name, value in record.headers.items() if name != header},
    )


def store_id(meta: MetaBackend) -> str:
    """Return a store's id, by which marks name it: made when it's asked for first; empty if it keeps no notes."""
    if not isinstance(meta, NoteKeeper):
        return ""
    if _STORE_ID not in meta.get_notes():
        meta.set_note(_STORE_ID, uuid4().hex)
    return meta.get_notes()[_STORE_ID]
