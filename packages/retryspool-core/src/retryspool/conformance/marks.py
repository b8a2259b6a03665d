"""What stands on a test of the suite: its clauses, its level, and what a backend deviates in."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest

from retryspool.conformance.contract import CLAUSES, Clause

__all__ = ["DEVIATION_MARK", "TEST_MARK", "Level", "TestMark", "clause", "clauses_of", "deviation"]

TEST_MARK = "retryspool_conformance"
DEVIATION_MARK = "retryspool_deviation"
_ATTRIBUTE = "__retryspool_conformance__"

Function = TypeVar("Function", bound=Callable[..., object])


class Level(enum.Enum):
    """How hard a test tries; each level is run and reported by itself."""

    CORE = "core"
    """What every backend must do, one caller at a time."""
    CONCURRENT = "concurrent"
    """Threads and processes at once."""
    DURABLE = "durable"
    """Killed, reopened, streamed through: what must be there afterwards."""
    NETWORK = "network"
    """Through a proxy that delays, resets, swallows and refuses."""


@dataclass(frozen=True, slots=True)
class TestMark:
    """What a test of the suite checks."""

    __test__ = False

    clauses: tuple[Clause, ...]
    level: Level


def clause(*ids: str, level: Level = Level.CORE) -> Callable[[Function], Function]:
    """Mark a test with the clauses that it checks.

    :raises KeyError: there's no such clause
    """
    mark = TestMark(tuple(CLAUSES[each] for each in ids), level)

    def decorate(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, mark)
        marked: Function = getattr(pytest.mark, TEST_MARK)(mark)(function)
        return marked

    return decorate


def clauses_of(function: object) -> TestMark | None:
    """Return what a test of the suite checks; None for any other function."""
    return getattr(function, _ATTRIBUTE, None)


def deviation(*, reason: str, issue: str) -> Callable[[Function], Function]:
    """Mark an overridden test, or one that is known to fail: the report shows it with its reason and issue.

    :param reason: in what the backend doesn't keep the contract
    :param issue: where that is followed up, a URL mostly
    """

    def decorate(function: Function) -> Function:
        failing = pytest.mark.xfail(reason=f"{reason} ({issue})", strict=True)(function)
        marked: Function = getattr(pytest.mark, DEVIATION_MARK)(reason=reason, issue=issue)(failing)
        return marked

    return decorate
