"""How each write changes a record: the rules that all backends share, as pure functions.

A backend reads the stored record, calls one of these, and stores what comes back, all in one atomic step of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from retryspool.errors import InvalidMetadataError, InvalidOptionError, StateConflictError
from retryspool.ids import validate_message_id
from retryspool.model import ZERO_TIME, MessageMetadata, State

__all__ = [
    "Rank",
    "age_rank",
    "check_version",
    "claim_rank",
    "claimed",
    "created",
    "due_at",
    "is_claimable",
    "moved",
    "released",
    "renewed",
    "updated",
    "validate_lease",
    "validate_metadata",
    "validate_owner",
    "validate_record",
]

_MAX_INT = 2**63 - 1
_OWNER = re.compile(r"[A-Za-z0-9._=@+:/-]{1,64}")
_MAX_LEASE = timedelta(days=365)


def validate_record(message_id: str, metadata: MessageMetadata) -> MessageMetadata:
    """Return `metadata` if every backend can store it under `message_id`. Backends call it before `created`, `updated`.

    :raises InvalidMessageIdError: the id isn't one
    :raises InvalidMetadataError: the record is another message's, or as `validate_metadata` says
    """
    validate_message_id(message_id)
    if metadata.id != message_id:
        msg = f"message {message_id!r}: the record is that of {metadata.id!r:.60}"
        raise InvalidMetadataError(msg)
    return validate_metadata(metadata)


def validate_metadata(metadata: MessageMetadata) -> MessageMetadata:
    """Return `metadata` if every backend can store it.

    :raises InvalidMessageIdError: its id isn't one
    :raises InvalidMetadataError: a number below 0 or above 63 bits, a naive time, or text that isn't storable
    """
    validate_message_id(metadata.id)
    for name in ("attempts", "max_attempts", "size", "priority", "version", "deliveries"):
        number: object = getattr(metadata, name)
        if not (isinstance(number, int) and 0 <= number <= _MAX_INT):
            msg = f"message {metadata.id!r}: {name} is {number!r}; it must be an integer between 0 and {_MAX_INT}"
            raise InvalidMetadataError(msg)
    for name in ("next_retry", "created", "updated", "lease_expires"):
        time: datetime = getattr(metadata, name)
        if time.tzinfo is not UTC:
            _validate_time(metadata.id, name, time)
    if not _are_plain(metadata):
        for name in ("last_error", "retry_policy_name", "lease_owner", "route", "checksum"):
            _validate_text(metadata.id, name, getattr(metadata, name))
        _validate_headers(metadata.id, metadata.headers)
    return metadata


def _are_plain(metadata: MessageMetadata) -> bool:
    """Tell whether all texts are what nearly all are, ASCII without a NUL, by one look at them together."""
    m, headers = metadata, metadata.headers
    try:
        text = "".join(
            (m.last_error, m.retry_policy_name, m.lease_owner, m.route, m.checksum, *headers, *headers.values())
        )
    except TypeError:
        return False
    return text.isascii() and "\0" not in text and "" not in headers


def _validate_time(message_id: str, name: str, time: datetime) -> None:
    if time.utcoffset() is None:
        msg = f"message {message_id!r}: {name} has no time zone; use an aware datetime, such as datetime.now(UTC)"
        raise InvalidMetadataError(msg)
    try:
        time.astimezone(UTC)
    except OverflowError:  # the first hours of year 1 east of Greenwich, the last of 9999 west of it
        msg = f"message {message_id!r}: {name} is {time}; in UTC that is outside the years 1 to 9999"
        raise InvalidMetadataError(msg) from None


def _validate_headers(message_id: str, headers: Mapping[str, str]) -> None:
    for key, value in headers.items():
        if not key:
            msg = f"message {message_id!r}: a header has an empty name"
            raise InvalidMetadataError(msg)
        _validate_text(message_id, "a header's name", key)
        _validate_text(message_id, f"header {key!r}", value)


def _validate_text(message_id: str, name: str, text: str) -> None:
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"message {message_id!r}: {name} is of type {type(text).__name__}; it must be a str"
        raise InvalidMetadataError(msg)
    if text.isascii() and "\0" not in text:
        return
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        msg = f"message {message_id!r}: {name} holds a NUL or a lone surrogate, which not every backend can store"
        raise InvalidMetadataError(msg)


def validate_owner(owner: str) -> str:
    """Return `owner` if it is 1 to 64 characters of `A-Z a-z 0-9 . _ = @ + : / -`.

    :raises InvalidOptionError: it isn't
    """
    if _OWNER.fullmatch(owner) is None:
        msg = f"owner is {owner[:80]!r}; it must be 1 to 64 characters of A-Z a-z 0-9 . _ = @ + : / -"
        raise InvalidOptionError(msg)
    return owner


def validate_lease(lease: timedelta) -> timedelta:
    """Return `lease` if it is longer than nothing, and not longer than a year.

    :raises InvalidOptionError: it isn't
    """
    if not timedelta(0) < lease <= _MAX_LEASE:
        msg = f"lease is {lease}; it must be longer than 0 and at most {_MAX_LEASE.days} days"
        raise InvalidOptionError(msg)
    return lease


def _in_utc(time: datetime) -> datetime:
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def created(metadata: MessageMetadata, now: datetime) -> MessageMetadata:
    """Return the record as `store_meta` stores it."""
    return replace(
        metadata,
        created=now if metadata.created == ZERO_TIME else _in_utc(metadata.created),
        updated=now,
        next_retry=_in_utc(metadata.next_retry),
        lease_expires=_in_utc(metadata.lease_expires),
        version=1,
    )


def updated(
    stored: MessageMetadata, metadata: MessageMetadata, now: datetime, if_version: int | None = None
) -> MessageMetadata:
    """Return the record as `update_meta` stores it: `metadata`, with the next version.

    :raises StateConflictError: `if_version` isn't the stored record's
    """
    check_version(stored, if_version)
    return replace(
        metadata,
        created=stored.created if metadata.created == ZERO_TIME else _in_utc(metadata.created),
        updated=now,
        next_retry=_in_utc(metadata.next_retry),
        lease_expires=_in_utc(metadata.lease_expires),
        version=stored.version + 1,
    )


def check_version(stored: MessageMetadata, if_version: int | None) -> None:
    """Do nothing if the versions agree or none was asked for.

    :raises StateConflictError: they don't
    """
    if if_version is not None and stored.version != if_version:
        raise StateConflictError(
            stored.id, found=stored.state, found_version=stored.version, expected_version=if_version
        )


def moved(stored: MessageMetadata, from_state: State, to_state: State, now: datetime) -> MessageMetadata:
    """Return the record as `move_to_state` stores it; the stored one itself if the states are the same.

    A lease ends with the state that it was for.

    :raises StateConflictError: the message isn't in `from_state`
    """
    if stored.state is not from_state:
        raise StateConflictError(stored.id, found=stored.state, expected=from_state)
    if from_state is to_state:
        return stored
    return replace(
        stored,
        state=to_state,
        updated=now,
        version=stored.version + 1,
        lease_owner="",
        lease_expires=ZERO_TIME,
        claimed_from=None,
    )


def due_at(record: MessageMetadata) -> datetime:
    """Return when the record may be claimed: at its next retry, or when its lease has expired."""
    return record.lease_expires if record.state is State.ACTIVE else record.next_retry


def is_claimable(record: MessageMetadata, now: datetime) -> bool:
    """Tell whether the record may be claimed, as far as the time decides."""
    return due_at(record) <= now


Rank = Callable[[MessageMetadata], tuple[Any, ...]]
"""What the claimable records of one source are ordered by."""


def claim_rank(record: MessageMetadata) -> tuple[int, datetime, str]:
    """Rank a claimable record by its priority, and then by its age."""
    return record.priority, due_at(record), record.id


def age_rank(record: MessageMetadata) -> tuple[datetime, str]:
    """Rank a claimable record by its age, whatever its priority."""
    return due_at(record), record.id


def claimed(record: MessageMetadata, *, owner: str, lease: timedelta, now: datetime) -> MessageMetadata:
    """Return the record as `claim` stores it. One whose lease has expired keeps the state it was first claimed from."""
    return replace(
        record,
        state=State.ACTIVE,
        updated=now,
        version=record.version + 1,
        deliveries=record.deliveries + 1,
        lease_owner=owner,
        lease_expires=now + lease,
        claimed_from=record.claimed_from if record.state is State.ACTIVE else record.state,
    )


def renewed(stored: MessageMetadata, claim: MessageMetadata, *, lease: timedelta, now: datetime) -> MessageMetadata:
    """Return the record as `renew` stores it.

    :raises StateConflictError: the stored record isn't the one that was claimed any more
    """
    check_version(stored, claim.version)
    if stored.state is not State.ACTIVE:
        raise StateConflictError(stored.id, found=stored.state, expected=State.ACTIVE)
    return replace(stored, updated=now, version=stored.version + 1, lease_expires=now + lease)


def released(claim: MessageMetadata) -> MessageMetadata:
    """Return a claimed record as it goes back unhandled: to where it was claimed from, the delivery not counted."""
    return replace(
        claim,
        state=claim.claimed_from or State.INCOMING,
        deliveries=max(0, claim.deliveries - 1),
        lease_owner="",
        lease_expires=ZERO_TIME,
        claimed_from=None,
    )
