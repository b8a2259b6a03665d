"""What a crash left between the two backends: found, and swept."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from retryspool.data import DataBackend
from retryspool.errors import CorruptRecordError, MessageNotFoundError
from retryspool.meta import MetaBackend
from retryspool.model import State, utc_now
from retryspool.spool.enqueue import has_payload
from retryspool.spool.joining import is_pending

__all__ = ["DEFAULT_GRACE", "Discrepancy", "DiscrepancyKind", "reconcile"]

DEFAULT_GRACE = timedelta(hours=1)
"""How old a payload without a record must be to count as an orphan: longer than the longest enqueue."""


class DiscrepancyKind(enum.Enum):
    """What is wrong between record and payload."""

    ORPHAN_PAYLOAD = "orphan payload"
    """A payload without a record: an enqueue, or the end of a deletion, was cut off."""
    MISSING_PAYLOAD = "missing payload"
    """A record without its payload: the message bounces when its turn comes, or is deleted by hand."""
    UNFINISHED_PAYLOAD = "unfinished payload"
    """Parts of a payload whose writer never closed it, such as a multipart upload: nobody ever sees them."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One difference between the two backends."""

    kind: DiscrepancyKind
    message_id: str
    size: int
    """The payload's size in bytes, as it is or should be."""
    state: State | None
    """The record's state, if there's a record."""
    removed: bool
    """Whether it was swept."""


def reconcile(
    meta: MetaBackend, data: DataBackend, *, grace: timedelta = DEFAULT_GRACE, dry_run: bool = False
) -> Iterator[Discrepancy]:
    """Yield what doesn't fit together, and remove orphan and unfinished payloads on the way."""
    newest = utc_now() - grace
    for info in data.iter_data():
        if info.modified <= newest and _is_orphan(meta, info.message_id):
            if not dry_run:
                data.delete_data(info.message_id)
            yield Discrepancy(DiscrepancyKind.ORPHAN_PAYLOAD, info.message_id, info.size, None, removed=not dry_run)
    for info in data.sweep(newest, dry_run=dry_run):
        yield Discrepancy(DiscrepancyKind.UNFINISHED_PAYLOAD, info.message_id, info.size, None, removed=not dry_run)
    for state in State:
        for record in meta.iter_messages(state):
            # One without a record by now was deleted since.
            if not has_payload(data, record.id) and _has_record(meta, record.id):
                yield Discrepancy(DiscrepancyKind.MISSING_PAYLOAD, record.id, record.size, state, removed=False)


def _is_orphan(meta: MetaBackend, message_id: str) -> bool:
    # In this order: a transaction that has ended by the first look shows its record in the second.
    return not is_pending(meta, message_id) and not _has_record(meta, message_id)


def _has_record(meta: MetaBackend, message_id: str) -> bool:
    try:
        meta.get_meta(message_id)
    except MessageNotFoundError:
        return False
    except CorruptRecordError:  # a record all the same: its payload may be all that can be saved
        pass
    return True
