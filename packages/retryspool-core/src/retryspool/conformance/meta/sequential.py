"""A record as a sequential model: what one operation after the other would return and leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from retryspool.conformance.histories import OPEN, Operation
from retryspool.errors import MessageExistsError, MessageNotFoundError, StateConflictError, StorageError
from retryspool.model import MessageMetadata, State

__all__ = [
    "SOURCE",
    "Call",
    "Claim",
    "Delete",
    "Get",
    "Move",
    "Record",
    "Refused",
    "Renew",
    "Store",
    "Update",
    "judged",
    "step",
]

SOURCE = State.INCOMING
"""The only state that histories claim from: a claim that looks at two in turn may miss what moves between them."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a record: its state, its version, who wrote its content, and its lease."""

    state: State
    version: int
    content: str
    owner: str = ""
    expires: datetime | None = None
    """When its lease ends, by the store's clock; None without one, or where nobody knows."""
    written: datetime | None = field(default=None, compare=False)
    """When, by the store's clock."""

    def __str__(self) -> str:
        return f"{self.state} v{self.version} of {self.content}" + (f", leased to {self.owner}" if self.owner else "")

    @classmethod
    def of(cls, stored: MessageMetadata) -> Record:
        """Return what a stored record comes to."""
        owner = stored.lease_owner
        expires = stored.lease_expires if owner else None
        return cls(stored.state, stored.version, stored.last_error, owner, expires, stored.updated)


@dataclass(frozen=True, slots=True)
class Refused:
    """An error in place of a result."""

    why: type[StorageError]
    found: State | None = None
    """The state that a move found instead."""

    def __str__(self) -> str:
        return f"{self.why.__name__}, found {self.found}" if self.found else self.why.__name__


@dataclass(frozen=True, slots=True)
class Store:
    """`store_meta`."""

    content: str
    state: State = SOURCE


@dataclass(frozen=True, slots=True)
class Get:
    """`get_meta`."""


@dataclass(frozen=True, slots=True)
class Update:
    """`update_meta`; what settles a message too."""

    content: str
    state: State
    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """`delete_meta`."""

    if_version: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """`move_to_state`."""

    from_state: State
    to_state: State


@dataclass(frozen=True, slots=True)
class Claim:
    """`claim` of all that is due in `SOURCE`, as far as it is about one message: its record, or None without it."""

    owner: str


@dataclass(frozen=True, slots=True)
class Renew:
    """`renew` of one claim."""

    owner: str
    version: int


Call = Store | Get | Update | Delete | Move | Claim | Renew

_NOT_FOUND = Refused(MessageNotFoundError)
_CONFLICT = Refused(StateConflictError)


def judged(operations: Sequence[Operation]) -> list[Operation]:
    """Leave out what promises nothing: a claim that comes back without a message while another call writes that.

    It need not wait for a claim of somebody else, nor see what isn't acknowledged yet.
    """
    writes = [each for each in operations if not isinstance(each.call, Get) and each.result is not None]
    writes += [each for each in operations if isinstance(each.call, Delete)]
    return [
        each
        for each in operations
        if not (isinstance(each.call, Claim) and each.result is None)
        or not any(other.message_id == each.message_id and _overlap(each, other) for other in writes)
    ]


def _overlap(one: Operation, other: Operation) -> bool:
    return (other.ended is None or one.began < other.ended) and (one.ended is None or other.began < one.ended)


def step(before: Record | None, operation: Operation) -> Iterable[Record | None]:
    """Return what an operation may leave of a record, or of none; nothing if it can't have returned what it did."""
    call, result = operation.call, operation.result
    assert isinstance(call, Call)
    if isinstance(call, Claim):
        return _claim(before, call, result)
    if isinstance(call, Renew) and result == _CONFLICT and before is not None and before.owner != call.owner:
        return [before]  # one that was deleted and stored again may have come to the version of the old claim
    expected = _expected(before, call)
    if isinstance(expected, Refused):
        return [before] if expected == result else []
    if expected is None or result == OPEN:
        return [expected] if result in {expected, OPEN} else []
    return _written(before, expected, result)


def _written(before: Record | None, expected: Record, result: object) -> Iterable[Record]:
    """Compare records: the store says when a lease is over, but not twice of one that it only reads."""
    if not isinstance(result, Record):
        return []
    was_known = expected == before and expected.expires is not None
    return [result] if expected == result or (not was_known and _but_for_its_end(expected, result)) else []


def _but_for_its_end(expected: Record, result: Record) -> bool:
    return replace(expected, expires=result.expires) == result


def _expected(before: Record | None, call: Store | Get | Update | Delete | Move | Renew) -> Record | Refused | None:
    """Return what a call returns, which is what it leaves too unless it's refused."""
    if isinstance(call, Store):
        return Record(call.state, 1, call.content) if before is None else Refused(MessageExistsError)
    return _NOT_FOUND if before is None else _expected_of(before, call)


def _expected_of(before: Record, call: Get | Update | Delete | Move | Renew) -> Record | Refused | None:
    match call:
        case Get():
            return before
        case Update(content, state, if_version):
            return Record(state, before.version + 1, content) if if_version in {None, before.version} else _CONFLICT
        case Delete(if_version):
            return None if if_version in {None, before.version} else _CONFLICT
        case Move(from_state, to_state) if from_state is before.state:
            return before if from_state is to_state else Record(to_state, before.version + 1, before.content)
        case Move():
            return Refused(StateConflictError, before.state)
        case Renew(_, version):
            is_held = before.version == version and before.state is State.ACTIVE
            return replace(before, version=version + 1, expires=None) if is_held else _CONFLICT
        case _:
            assert_never(call)


def _claim(before: Record | None, call: Claim, result: object) -> Iterable[Record | None]:
    if result is None:
        return [] if before is not None and before.state is SOURCE else [before]
    written = result.written if isinstance(result, Record) else None
    if before is None or not _may_be_claimed(before, written):
        return []
    expected = Record(State.ACTIVE, before.version + 1, before.content, call.owner)
    if not isinstance(result, Record):
        return [expected] if result == OPEN else []
    return [result] if _but_for_its_end(expected, result) else []


def _may_be_claimed(before: Record, at: datetime | None) -> bool:
    """Tell whether a claim may have taken the record, given when the store says that it did."""
    if before.state is not State.ACTIVE:
        return before.state is SOURCE
    return before.expires is None or at is None or at >= before.expires
