"""Telling what became of messages: to the log, and to observers."""

from __future__ import annotations

import logging

from retryspool.meta import Delete
from retryspool.queue.message import Job
from retryspool.queue.observers import Settled
from retryspool.queue.outcome import Failed, GivenUp, Settlement

__all__ = ["log_settled", "told"]

_log = logging.getLogger("retryspool.queue.settler")  # whoever settles, by this name its log is turned on and off


def told(job: Job, settlement: Settlement) -> Settled:
    """Return what observers are told of a message that is settled."""
    write = settlement.write
    return Settled(
        record=job.record,
        became=None if isinstance(write, Delete) else write.metadata,
        outcome=settlement.counts[0] if settlement.counts else "kept",
        seconds=job.seconds,
        error=getattr(job.outcome, "error", ""),
    )


def log_settled(job: Job, settlement: Settlement) -> None:
    """Log what became of a message that is settled."""
    level = logging.DEBUG
    error = ""
    if isinstance(job.outcome, (Failed, GivenUp)):
        level, error = logging.INFO, job.outcome.error
    if not _log.isEnabledFor(level):
        return
    record = job.record
    write = settlement.write
    became = "deleted" if isinstance(write, Delete) else write.metadata.state.label
    extra = {
        "message_id": record.id,
        "route": record.route,
        "claimed_from": job.origin.label,
        "outcome": settlement.counts[0] if settlement.counts else "kept",
        "became": became,
        "attempts": record.attempts if isinstance(write, Delete) else write.metadata.attempts,
        "deliveries": record.deliveries,
        "seconds": job.seconds,
        "error": error,
    }
    _log.log(level, "message %s: %s%s", record.id, became, f" ({error})" if error else "", extra=extra)
