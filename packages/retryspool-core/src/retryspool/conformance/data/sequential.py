"""A payload as a sequential model: what one operation after the other would return and leave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, assert_never

from retryspool.conformance.histories import OPEN, Operation
from retryspool.errors import DataExistsError, DataNotFoundError, StorageError

__all__ = ["MISSING", "STORED", "Call", "Delete", "Read", "Refused", "Store", "step"]

STORED: Final = "stored"


@dataclass(frozen=True, slots=True)
class Refused:
    """An error in place of a result."""

    why: type[StorageError]

    def __str__(self) -> str:
        return self.why.__name__


MISSING: Final = Refused(DataNotFoundError)


@dataclass(frozen=True, slots=True)
class Store:
    """`store_data`, or a writer from its opening to its close."""

    content: str
    """A name for it."""
    if_absent: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """`get_data_reader`; returns the name of the content that the reader had."""


@dataclass(frozen=True, slots=True)
class Delete:
    """`delete_data`."""


Call = Store | Read | Delete


def step(before: str | None, operation: Operation) -> Iterable[str | None]:
    """Return what an operation may leave of a payload, or of none; nothing if it can't have returned what it did."""
    call, result = operation.call, operation.result
    assert isinstance(call, Call)
    expected: object
    match call:
        case Store(content, if_absent):
            refused = if_absent and before is not None
            expected, after = (Refused(DataExistsError), before) if refused else (STORED, content)
        case Read():
            expected, after = before or MISSING, before
        case Delete():
            expected, after = None, None
        case _:
            assert_never(call)
    return [after] if result in {expected, OPEN} else []
