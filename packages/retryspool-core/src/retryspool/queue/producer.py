"""Enqueuing: from what a user passes in to a record and a payload in the spool."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from retryspool.data import Payload
from retryspool.errors import (
    InvalidMetadataError,
    InvalidOptionError,
    MessageExistsError,
    MessageNotFoundError,
    StorageError,
)
from retryspool.ids import new_message_id
from retryspool.model import ZERO_TIME, MessageMetadata, utc_now
from retryspool.queue.counters import Counters
from retryspool.queue.message import user_headers
from retryspool.queue.observing import Observers, Storing
from retryspool.queue.options import QueueOptions, check_range
from retryspool.queue.policy import Policies
from retryspool.records import validate_metadata
from retryspool.spool import EnqueueTransaction, Spool

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "POLICY_HEADER",
    "PRIORITY_HEADER",
    "EnqueueResult",
    "IfExists",
    "MessageWriter",
    "NotBefore",
    "Outgoing",
    "Producer",
]

POLICY_HEADER = "x-retry-policy"
"""The header that names a message's retry policy, where the argument doesn't."""
PRIORITY_HEADER = "priority"
"""The header that sets a message's priority if it is a number from 0 to 100, where the argument doesn't."""

IfExists = Literal["raise", "skip"]
"""What becomes of a message whose id is there already: an error, or nothing, as it was accepted before."""
NotBefore = datetime | timedelta | float | None
"""When a message is due: a time with its zone, or a delay, also in seconds; at once if None."""
EnqueueResult = MessageMetadata | StorageError
"""What became of one of many messages."""


def _no_headers() -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message to be enqueued; what isn't set is the queue's default."""

    payload: Payload
    headers: Mapping[str, str] = field(default_factory=_no_headers)
    message_id: str | None = None
    """A name for the message, and an idempotency key: there's one message of an id at a time. A new UUIDv7 if None."""
    route: str = ""
    priority: int | None = None
    not_before: NotBefore = None
    max_attempts: int | None = None
    retry_policy: str | None = None


class Producer:
    """The enqueuing half of a queue."""

    def __init__(
        self, spool: Spool, options: QueueOptions, policies: Policies, counters: Counters, observers: Observers
    ) -> None:
        self._spool = spool
        self._options = options
        self._policies = policies
        self._counters = counters
        self._observers = observers

    def enqueue(self, message: Outgoing, if_exists: IfExists, transaction: object | None = None) -> MessageMetadata:
        """Store a message."""
        _check(if_exists)
        record = self._record(message)
        _check_payload(message.payload)
        with self.storing([record]) as storing:
            try:
                stored = self._spool.enqueue(
                    storing.records[0],
                    message.payload,
                    is_new=message.message_id is None,
                    transaction=transaction,
                )
            except MessageExistsError as error:
                if if_exists == "raise":
                    raise
                return self.existing(error, transaction)
            self.committed(stored, storing)
            return stored

    def begin(self, message: Outgoing, if_exists: IfExists, transaction: object | None = None) -> MessageWriter:
        """Begin to store a message."""
        _check(if_exists)
        record = self._record(message)
        try:
            begun = self._spool.begin(record, is_new=message.message_id is None, transaction=transaction)
        except MessageExistsError as error:
            if if_exists == "raise":
                raise
            return MessageWriter(self, message, record, existing=self.existing(error, transaction))
        return MessageWriter(self, message, record, begun=begun, if_exists=if_exists, transaction=transaction)

    def enqueue_many(
        self, messages: Iterable[Outgoing], if_exists: IfExists, transaction: object | None = None
    ) -> list[EnqueueResult]:
        """Store several messages."""
        _check(if_exists)
        batch = [(self._record(_outgoing(message)), message) for message in messages]
        for _, message in batch:
            _check_payload(message.payload)
        with self.storing([record for record, _ in batch]) as storing:
            messages = [message for _, message in batch]
            results: dict[int, EnqueueResult] = {}
            for is_new in (True, False):
                which = [index for index, message in enumerate(messages) if (message.message_id is None) is is_new]
                for start in range(0, len(which), self._options.batch_size):
                    chunk = which[start : start + self._options.batch_size]
                    pairs = [(storing.records[index], messages[index].payload) for index in chunk]
                    stored = self._spool.enqueue_many(pairs, is_new=is_new, transaction=transaction)
                    results.update(zip(chunk, stored, strict=True))
            for index, result in results.items():
                if isinstance(result, MessageMetadata):
                    self.committed(result, storing)
                elif isinstance(result, MessageExistsError) and if_exists == "skip":
                    with suppress(MessageExistsError):
                        results[index] = self.existing(result, transaction)
                else:
                    storing.failed(index, result)
            return [results[index] for index in range(len(batch))]

    def storing(self, records: Sequence[MessageMetadata]) -> Storing:
        """Return what surrounds the storing of messages: observers may add to their headers."""
        return self._observers.accepting(records)

    def existing(self, error: MessageExistsError, transaction: object | None = None) -> MessageMetadata:
        """Return the record that stands in a message's way.

        :raises MessageExistsError: it's gone already: its message is done with
        """
        try:
            return self._spool.shown(self._spool.get(error.message_id, transaction=transaction))
        except MessageNotFoundError:
            raise error from None

    def committed(self, stored: MessageMetadata, storing: Storing) -> None:
        """Take note of a message that was accepted."""
        self._counters.add("accepted")
        storing.accepted(stored)

    def _record(self, message: Outgoing) -> MessageMetadata:
        max_attempts = self._options.max_attempts if message.max_attempts is None else message.max_attempts
        check_range("max_attempts", max_attempts)
        record = MessageMetadata(
            id=new_message_id() if message.message_id is None else message.message_id,
            max_attempts=max_attempts,
            next_retry=_due(message.not_before),
            route=message.route,
        )
        return self.with_headers(record, message, message.headers)

    def with_headers(self, record: MessageMetadata, message: Outgoing, headers: Mapping[str, str]) -> MessageMetadata:
        """Return the record with the headers, and with what those decide: policy and priority."""
        if headers:
            validate_metadata(replace(record, headers=headers))
        policy = message.retry_policy or headers.get(POLICY_HEADER, "")
        if policy:
            self._policies.require(policy)
        priority = _priority(headers) if message.priority is None else message.priority
        if priority is None:
            priority = self._options.priority
        check_range("priority", priority)
        return replace(record, headers=user_headers(headers), retry_policy_name=policy, priority=priority)


class MessageWriter:
    """A message whose payload is being written, in a `with` block.

    Nothing of it is visible before the block ends, and nothing is left of it if it ends by an exception. `headers` may
    be changed until then.
    """

    def __init__(
        self,
        producer: Producer,
        message: Outgoing,
        record: MessageMetadata,
        *,
        begun: EnqueueTransaction | None = None,
        existing: MessageMetadata | None = None,
        if_exists: IfExists = "skip",
        transaction: object | None = None,
    ) -> None:
        self._producer = producer
        self._message = message
        self._record = record
        self._begun = begun
        self._transaction = transaction
        self._stored = existing
        self._if_exists = if_exists
        self.headers: dict[str, str] = dict(record.headers)

    @property
    def message_id(self) -> str:
        """The message's id."""
        return self._record.id

    @property
    def stored(self) -> bool:
        """Whether the message is stored: by this block, or before it where that is to be skipped."""
        return self._stored is not None

    @property
    def record(self) -> MessageMetadata:
        """The record, as it was stored; before that, as it will be, so far."""
        return self._stored or replace(self._record, headers=user_headers(self.headers))

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes to the payload; returns how many.

        Where the message is there already and `if_exists` is `"skip"`, they go nowhere.
        """
        if self._begun is not None:
            return self._begun.payload.write(data)
        with memoryview(data) as view:
            return view.nbytes

    def commit(self) -> MessageMetadata:
        """Store the message: when this returns, it's safe. The `with` block does it by itself.

        :returns: the record as stored; that of the message which is there already, if that is to be skipped
        :raises MessageExistsError: another enqueue of the same id came first
        :raises InvalidInputError: the headers can't be stored, or name a policy that there isn't
        """
        if self._stored is not None and (self._begun is None or self._begun.payload.closed):
            return self._stored
        if self._begun is None:
            msg = f"message {self.message_id!r} was aborted already"
            raise ValueError(msg)
        try:
            record = self._producer.with_headers(self._record, self._message, self.headers)
            with self._producer.storing([record]) as storing:
                self._stored = self._commit(self._begun, storing)
        except MessageExistsError:
            raise
        except BaseException:
            self.abort()
            raise
        return self._stored

    def _commit(self, begun: EnqueueTransaction, storing: Storing) -> MessageMetadata:
        begun.record = storing.records[0]
        try:
            stored = begun.commit()
        except MessageExistsError as error:
            if self._if_exists == "raise":
                raise
            return self._producer.existing(error, self._transaction)
        self._producer.committed(stored, storing)
        return stored

    def abort(self) -> None:
        """Throw the message away. Does nothing after `commit()`."""
        if self._begun is not None:
            self._begun.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.abort()


def _priority(headers: Mapping[str, str]) -> int | None:
    """Return the priority that the headers set; None where they say something else by that name."""
    text = headers.get(PRIORITY_HEADER, "")
    return int(text) if re.fullmatch("[0-9]{1,2}|100", text) else None


def _check(if_exists: str) -> None:
    if if_exists not in {"raise", "skip"}:
        raise InvalidOptionError(f"if_exists is {if_exists!r}; it must be 'raise' or 'skip'")


def _outgoing(message: object) -> Outgoing:
    if not isinstance(message, Outgoing):
        kind = type(message).__name__
        raise TypeError(f"a message is of type {kind}; each must be an Outgoing, as in Outgoing(payload=b'…')")
    return message


def _check_payload(payload: object) -> None:
    if isinstance(payload, str):
        raise TypeError("a payload is bytes, a binary file or an iterable of bytes; encode the str")


def _due(not_before: NotBefore) -> datetime:
    if not_before is None:
        return ZERO_TIME
    if isinstance(not_before, datetime):
        if not_before.utcoffset() is None:
            raise InvalidMetadataError("not_before has no time zone; use an aware datetime, such as datetime.now(UTC)")
        return not_before.astimezone(UTC)
    try:
        return utc_now() + (not_before if isinstance(not_before, timedelta) else timedelta(seconds=not_before))
    except (OverflowError, ValueError):
        raise InvalidMetadataError(f"not_before is {not_before!r}; it must lie within the years 1 to 9999") from None
