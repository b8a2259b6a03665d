"""A message's record as JSON: the keys and forms that scripts may rely on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

from retryspool import ZERO_TIME, MessageMetadata

__all__ = ["RecordJson", "record_json", "time_json"]


class RecordJson(TypedDict):
    """A record. Times are ISO 8601 in UTC, null where they were never set; a time in the year 9999 means never."""

    id: str
    state: str
    attempts: int
    max_attempts: int
    deliveries: int
    next_retry: str | None
    created: str | None
    updated: str | None
    size: int
    priority: int
    route: str
    retry_policy: str
    last_error: str
    headers: dict[str, str]
    version: int
    claimed_from: str | None
    lease_owner: str
    lease_expires: str | None


def time_json(moment: datetime | None) -> str | None:
    """Return a time as JSON holds it."""
    if moment is None or moment == ZERO_TIME:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def record_json(record: MessageMetadata) -> RecordJson:
    """Return a record as JSON holds it."""
    return {
        "id": record.id,
        "state": record.state.label,
        "attempts": record.attempts,
        "max_attempts": record.max_attempts,
        "deliveries": record.deliveries,
        "next_retry": time_json(record.next_retry),
        "created": time_json(record.created),
        "updated": time_json(record.updated),
        "size": record.size,
        "priority": record.priority,
        "route": record.route,
        "retry_policy": record.retry_policy_name,
        "last_error": record.last_error,
        "headers": dict(record.headers),
        "version": record.version,
        "claimed_from": None if record.claimed_from is None else record.claimed_from.label,
        "lease_owner": record.lease_owner,
        "lease_expires": time_json(record.lease_expires),
    }
