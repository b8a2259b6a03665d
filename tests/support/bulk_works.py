"""What processes do to all messages of a store, beside others."""

from __future__ import annotations

from retryspool import Filter, Queue
from retryspool.queue import changes


def hold_all(meta: str, data: str) -> dict[str, int]:
    """Hold every message; return how many were held, and how many failed."""
    with Queue.open(meta=meta, data=data, batch_size=5) as queue:
        tally = queue.change_all(changes.hold(), Filter())
        return {"changed": tally.changed, "failed": tally.failed.total()}
