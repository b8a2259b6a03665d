"""Writes as the arguments of the script that does them, and its answers as records or errors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_never

from retryspool.errors import (
    BackendUnavailableError,
    CorruptRecordError,
    MessageExistsError,
    MessageNotFoundError,
    StateConflictError,
    StorageError,
    raise_if_refused,
)
from retryspool.meta import Delete, Move, Store, Update, Write, WriteResult
from retryspool.model import MessageMetadata, State
from retryspool_redis_meta.codec import decode, encode, found_in, state_text, time_of
from retryspool_redis_meta.failures import refusal
from retryspool_redis_meta.link import Link
from retryspool_redis_meta.scripts import WRITE

__all__ = ["Renew", "carry_out", "carry_out_one", "lease_parts"]

AT_ONCE = 100
"""How many writes one step of the server does: one or two milliseconds."""

_WORDS = 12


class Renew:
    """Extend a lease; fails as `renew` does."""

    __slots__ = ("claim", "lease")

    def __init__(self, claim: MessageMetadata, lease: timedelta) -> None:
        self.claim = claim
        self.lease = lease


AnyWrite = Write | Renew


def lease_parts(lease: timedelta) -> tuple[int, int]:
    """Return a lease in seconds and microseconds."""
    return lease.days * 86400 + lease.seconds, lease.microseconds


def carry_out_one(link: Link, write: AnyWrite) -> MessageMetadata | None:
    """Carry out a write.

    :raises StorageError: it failed
    """
    (answer,) = link.write(WRITE, int(link.waits_for_disk), *_arguments(write))
    result = _result(link.where, write, answer)
    if isinstance(result, StorageError):
        raise result
    return result


def carry_out(link: Link, writes: Sequence[AnyWrite], *, durable: bool = True) -> list[WriteResult]:
    """Carry out writes, a result each; raises only where none was carried out, and it isn't for one of them."""
    link.check()
    results: list[WriteResult] = []
    for start in range(0, len(writes), AT_ONCE):
        batch = writes[start : start + AT_ONCE]
        arguments = [argument for write in batch for argument in _arguments(write)]
        try:
            answers = link.write(WRITE, int(link.waits_for_disk and durable), *arguments, durable=durable)
        except StorageError as error:
            if not results:
                raise_if_refused(error)
            return [*results, *[error] * len(batch), *_not_tried(link, len(writes) - start - len(batch))]
        results += [_result(link.where, write, answer) for write, answer in zip(batch, answers, strict=True)]
    return results


def _not_tried(link: Link, count: int) -> list[WriteResult]:
    return [
        BackendUnavailableError(f"{link.where} failed before this write; it wasn't tried", outcome="none")
        for _ in range(count)
    ]


def _arguments(write: AnyWrite) -> tuple[str | bytes | int, ...]:
    match write:
        case Store(metadata):
            return "store", metadata.id, *encode(metadata), ""
        case Update(metadata, if_version):
            return "update", metadata.id, *encode(metadata), "" if if_version is None else if_version
        case Move(message_id, from_state, to_state):
            return "move", message_id, state_text(from_state), state_text(to_state), ""
        case Delete(message_id, if_version):
            return "delete", message_id, "" if if_version is None else if_version, "", ""
        case Renew():
            return "renew", write.claim.id, write.claim.version, *lease_parts(write.lease)
        case _:
            assert_never(write)


def _result(where: str, write: AnyWrite, answer: bytes) -> WriteResult:
    word, _, rest = answer.partition(b" ")
    if word == b"ok":
        try:
            return _stored(write, rest)
        except CorruptRecordError as error:
            return error
    return _error(where, write, word, rest)


def _error(where: str, write: AnyWrite, word: bytes, rest: bytes) -> StorageError:
    message_id = _id_of(write)
    match word:
        case b"conflict":
            return _conflict(write, rest)
        case b"exists":
            return MessageExistsError(message_id)
        case b"missing":
            return MessageNotFoundError(message_id)
        case b"damaged":
            return CorruptRecordError(f"the record of message {message_id!r} can't be read; check() says where it is")
        case _:
            return refusal(where, rest.decode(errors="replace"))


def _id_of(write: AnyWrite) -> str:
    match write:
        case Store(metadata) | Update(metadata):
            return metadata.id
        case Move(message_id) | Delete(message_id):
            return message_id
        case Renew():
            return write.claim.id
        case _:
            assert_never(write)


def _stored(write: AnyWrite, answer: bytes) -> MessageMetadata | None:
    match write:
        case Store(metadata) | Update(metadata):
            words = answer.split(b" ", _WORDS - 2)
            m = metadata
            return MessageMetadata(  # positional, since it's half the time of keywords, which is half that of replace()
                m.id,
                m.state,
                m.attempts,
                m.max_attempts,
                _in_utc(m.next_retry),
                time_of(words[8]),
                time_of(words[9]),
                m.last_error,
                m.size,
                m.priority,
                dict(m.headers),  # the caller goes on owning those that it passed
                m.retry_policy_name,
                int(words[0]),
                m.deliveries,
                m.lease_owner,
                _in_utc(m.lease_expires),
                m.claimed_from,
                m.route,
                m.checksum,
            )
        case Delete():
            return None
        case Move() | Renew():
            head, _, body = answer.partition(b"\n")
            return decode(_id_of(write), head, body)
        case _:
            assert_never(write)


def _in_utc(time: datetime) -> datetime:
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _conflict(write: AnyWrite, head: bytes) -> StateConflictError:
    state, version = found_in(head)
    message_id = _id_of(write)
    expected: State | None = None
    expected_version: int | None = None
    match write:
        case Move(_, from_state, _):
            expected = from_state
        case Update(_, if_version) | Delete(_, if_version):
            expected_version = if_version
        case Renew():
            if version == write.claim.version:
                expected = State.ACTIVE
            else:
                expected_version = write.claim.version
        case Store():
            pass
        case _:
            assert_never(write)
    if expected is not None:
        return StateConflictError(message_id, found=state, expected=expected)
    return StateConflictError(message_id, found=state, found_version=version, expected_version=expected_version)
