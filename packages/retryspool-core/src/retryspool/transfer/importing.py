"""Messages that come from files. Each has an id that is always the same, so that an import may be run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from retryspool.data import Payload, copy_payload
from retryspool.errors import CorruptDataError, InvalidInputError, MessageExistsError, StorageError
from retryspool.model import MessageMetadata, replace
from retryspool.queue.bulk import reason_of
from retryspool.spool import Spool
from retryspool.transfer.found import Aside, Found

__all__ = ["Imported", "import_messages"]


@dataclass(slots=True)
class Imported:
    """What an import has done so far."""

    messages: int = 0
    """Stored; in a dry run: that would be."""
    size: int = 0
    """Of their payloads, in bytes."""
    existing: int = 0
    """Whose ids were there already: they weren't touched."""
    aside: Counter[str] = field(default_factory=Counter[str])
    """That were left aside, by the reason: links, devices, what isn't whole."""


def import_messages(
    spool: Spool,
    found: Iterable[Found | Aside],
    *,
    dry_run: bool = False,
    progress: Callable[[Imported], object] = lambda _: None,
    told: Callable[[str, str], object] = lambda _name, _reason: None,
) -> Imported:
    """Store what was found, unless its id is there already.

    :param told: called with the name and the reason of each that is left aside
    """
    imported = Imported()
    for each in found:
        if isinstance(each, Aside):
            imported.aside[each.reason] += 1
            told(each.name, each.reason)
        else:
            try:
                _store(spool, each, imported, dry_run=dry_run)
            except (OSError, InvalidInputError, CorruptDataError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                imported.aside[reason_of(reason, each.record.id)] += 1
                told(each.record.id, reason)
        progress(imported)
    return imported


def _store(spool: Spool, found: Found, imported: Imported, *, dry_run: bool) -> None:
    try:
        if dry_run:
            _look(spool, found)
        else:
            with found.open() as payload:
                imported.size += _enqueue(spool, found, payload).size
    except MessageExistsError:
        imported.existing += 1
    else:
        imported.messages += 1


def _look(spool: Spool, found: Found) -> None:
    try:
        spool.get(found.record.id)
    except StorageError:
        with found.open():
            return
    raise MessageExistsError(found.record.id)


def _enqueue(spool: Spool, found: Found, payload: Payload) -> MessageMetadata:
    record = found.record
    with spool.begin(replace(record, size=0, checksum="")) as transaction:
        copy_payload(payload, transaction.payload)
        seen = transaction.payload.fingerprint
        if found.exact and seen.size != record.size:
            raise CorruptDataError(record.id, f"it has {seen.size} bytes, where its document says {record.size}")
        if found.exact and record.checksum and seen.checksum != record.checksum:
            text = f"its checksum is {seen.checksum}, where its document says {record.checksum}"
            raise CorruptDataError(record.id, text)
    return transaction.stored
