"""A claimed message: as the worker keeps it, and as a handler sees it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from retryspool.model import MessageMetadata, State
from retryspool.spool import OWN_HEADERS, own_headers, user_headers

if TYPE_CHECKING:
    from retryspool.queue.outcome import Outcome

__all__ = ["OWN_HEADERS", "Job", "Message", "own_headers", "user_headers"]


@dataclass(slots=True, eq=False)
class Job:
    """A message under this worker's lease, from its claim until it's settled."""

    record: MessageMetadata
    """As last claimed or renewed: its version is what settling goes by. Only the settler replaces it."""
    expires: float
    """When the lease is over, by the monotonic clock."""
    taken: bool = False
    """The store has refused this worker's lease: someone else has the message, or it's gone."""
    outcome: Outcome | None = None
    """What is to become of it."""
    seconds: float = 0
    """How long its handler ran."""
    tries: int = 0
    """How often settling has failed: it may have had its effect all the same."""
    try_at: float = 0
    """When to try again, by the monotonic clock."""
    try_until: float = math.inf
    """How long to try, by the monotonic clock."""
    alone: bool = False
    """It's on its last chance: its handler runs while nothing else of this worker is under way."""

    @property
    def lost(self) -> bool:
        """Whether somebody else may have the message."""
        return self.taken or time.monotonic() >= self.expires

    @property
    def origin(self) -> State:
        """The state that it was claimed from."""
        return self.record.claimed_from or State.INCOMING


class Message:
    """What a handler is given of a message, beside its payload.

    `headers` is the handler's to change: what it holds when the handler ends is stored with the result.
    """

    __slots__ = ("_job", "headers")

    def __init__(self, job: Job) -> None:
        self._job = job
        self.headers: dict[str, str] = user_headers(job.record.headers)

    @property
    def record(self) -> MessageMetadata:
        """The message's record under this worker's lease, as it is stored: its headers may be sealed."""
        return self._job.record

    @property
    def id(self) -> str:
        """The message's id: with `deliveries`, what a handler can be idempotent by."""
        return self._job.record.id

    @property
    def attempts(self) -> int:
        """Failures that handlers have reported so far; 0 at the first attempt."""
        return self._job.record.attempts

    @property
    def max_attempts(self) -> int:
        """So many failures, and the message bounces."""
        return self._job.record.max_attempts

    @property
    def deliveries(self) -> int:
        """How often the message was claimed, this time included; above `attempts` + 1, a worker may have died of it."""
        return self._job.record.deliveries

    @property
    def route(self) -> str:
        """The destination, empty if it has none."""
        return self._job.record.route

    @property
    def priority(self) -> int:
        """0 to 100; 1 goes before 5."""
        return self._job.record.priority

    @property
    def size(self) -> int:
        """The payload's size in bytes, as it was handed in."""
        return self._job.record.size

    @property
    def created(self) -> datetime:
        """When the message was accepted."""
        return self._job.record.created

    @property
    def last_error(self) -> str:
        """Why the last attempt failed; for a bounce handler, why the message bounced."""
        return self._job.record.last_error

    @property
    def claimed_from(self) -> State:
        """`INCOMING` or `DEFERRED`; for a bounce handler `BOUNCE`."""
        return self._job.origin

    @property
    def lost(self) -> bool:
        """The lease is over or someone else's: another worker may have the message, and this result will be refused.

        A handler that takes long may look now and then, and give up.
        """
        return self._job.lost

    def __repr__(self) -> str:
        return f"<Message {self.id} from {self.claimed_from}, attempts={self.attempts}, deliveries={self.deliveries}>"
