"""What a message's record is made of."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

__all__ = ["NEVER", "NOT_DURABLE", "ZERO_TIME", "Finding", "MessageMetadata", "Severity", "State", "replace", "utc_now"]

ZERO_TIME = datetime.min.replace(tzinfo=UTC)
"""A time that was never set: the first instant of year 1, as in the Go system's records. Before every deadline."""

NEVER = datetime.max.replace(tzinfo=UTC)
"""The `next_retry` of a message that is kept and isn't due any more."""


def utc_now() -> datetime:
    """Return the wall clock's time, aware, in UTC."""
    return datetime.now(UTC)


class State(enum.Enum):
    """The six states of a message. The values are those of the Go system's records."""

    INCOMING = 0
    """Accepted, waiting for its first attempt."""
    ACTIVE = 1
    """Claimed by a worker, under a lease."""
    DEFERRED = 2
    """Failed for now, waiting until `next_retry`."""
    HOLD = 3
    """Set aside by an operator until released."""
    BOUNCE = 4
    """Failed for good."""
    ARCHIVED = 5
    """Done with, kept for the record."""

    __hash__ = object.__hash__  # Enum's own hashes the name, in Python, for each look-up in each dictionary by state

    @property
    def label(self) -> str:
        """The state's name as people read it: `deferred`."""
        return self.name.lower()

    def __str__(self) -> str:
        return self.label

    @classmethod
    def from_label(cls, label: str) -> State:
        """Return the state called `label`.

        :raises ValueError: there's none of that name
        """
        try:
            return cls[label.upper()]
        except KeyError:
            msg = f"{label!r} is not a state; there are {', '.join(state.label for state in cls)}"
            raise ValueError(msg) from None


def _no_headers() -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class MessageMetadata:
    """One message's record. Times are aware and in UTC; `ZERO_TIME` is a time that was never set."""

    id: str
    state: State = State.INCOMING
    attempts: int = 0
    """Failures that a handler has reported."""
    max_attempts: int = 10
    """So many failures, and the message bounces."""
    next_retry: datetime = ZERO_TIME
    """When the message is due; `NEVER` for one that is only kept."""
    created: datetime = ZERO_TIME
    """When the message was accepted; set by the backend where the caller left it unset."""
    updated: datetime = ZERO_TIME
    """When the record was last written; always set by the backend."""
    last_error: str = ""
    size: int = 0
    """The payload's size in bytes, as it was handed in."""
    priority: int = 5
    """0 to 100; 1 goes before 5."""
    headers: Mapping[str, str] = field(default_factory=_no_headers)
    retry_policy_name: str = ""
    """The retry policy's name; empty for the queue's default."""
    version: int = 0
    """Raised by every write, set by the backend: what `if_version` compares."""
    deliveries: int = 0
    """How often the message was claimed, whatever became of it; a graceful release takes its claim back."""
    lease_owner: str = ""
    lease_expires: datetime = ZERO_TIME
    """Until when nobody else may claim an `ACTIVE` message. One without a lease may be claimed at once."""
    claimed_from: State | None = None
    """The state that an `ACTIVE` message was claimed from: where a release returns it to, and whose handlers it goes to
    even after its worker died."""
    route: str = ""
    """The destination; a claim can pass over some."""
    checksum: str = ""
    """The CRC-32 of the payload as it was handed in, in eight hexadecimal digits; empty where nobody knows it."""


class Severity(enum.Enum):
    """How bad a finding is."""

    NOTICE = "notice"
    """Worth knowing."""
    WARNING = "warning"
    """May cost messages in some event."""
    ERROR = "error"
    """Costs messages now, or already has."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `check()` found: a setting or a content that endangers messages."""

    severity: Severity
    subject: str
    """What it is about: a setting, a path, a message."""
    text: str
    """What was found and what to do about it, in a sentence."""
    message_id: str | None = None


NOT_DURABLE = Finding(
    Severity.WARNING,
    "durability",
    "what this backend holds is lost with its process or its machine; another one keeps what must not get lost",
)
"""What `check()` says of a backend whose capabilities don't have `durable`."""
