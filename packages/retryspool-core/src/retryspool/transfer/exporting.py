"""Messages as files: each its payload, and its record as a document, so that an import brings back what was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from retryspool.errors import MessageNotFoundError, StorageError
from retryspool.model import MessageMetadata
from retryspool.queue.bulk import reason_of
from retryspool.spool import Spool
from retryspool.transfer.sinks import Sink

__all__ = ["Exported", "export_messages"]


@dataclass(slots=True)
class Exported:
    """What an export has done so far."""

    messages: int = 0
    size: int = 0
    """Of their payloads, in bytes."""
    existing: int = 0
    """That were exported before, and haven't changed since."""
    gone: int = 0
    """That were done with before their turn came."""
    failed: Counter[str] = field(default_factory=Counter[str])
    """By the error."""


def export_messages(
    spool: Spool,
    records: Iterable[MessageMetadata],
    sink: Sink,
    *,
    progress: Callable[[Exported], object] = lambda _: None,
    safe: Callable[[MessageMetadata], object] = lambda _: None,
) -> Exported:
    """Write messages, payloads and headers as they were handed in; nothing in the spool changes.

    Once this returns, or `sink.sync()`, what was written survives a power cut.

    :param safe: called with each that is written, now or before
    """
    exported = Exported()
    for record in records:
        try:
            opened = spool.opened(spool.get(record.id))
            if sink.has(opened):
                exported.existing += 1
            else:
                with spool.open_payload(opened) as payload:
                    sink.write(opened, payload)
                exported.messages += 1
                exported.size += opened.size
            safe(opened)
        except MessageNotFoundError:
            exported.gone += 1
        except StorageError as error:
            exported.failed[reason_of(error, record.id)] += 1
        progress(exported)
    sink.sync()
    return exported
