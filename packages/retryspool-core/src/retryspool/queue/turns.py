"""Turns: each route has some of its messages claimed before any has more, where there's more to do than gets done.

A claim takes what is due first. Without turns, one route's long backlog keeps the next one's messages out of the worker
until it's done with; so would many slow routes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from retryspool.model import MessageMetadata

__all__ = ["Turns"]

_A_TURN = 5
"""So many messages of a route are claimed in each round."""
_MOST = 10_000
"""So many routes are passed over at the most because they had their turn: a claim's cost grows with their number."""


class Turns:
    """Which routes have had their turn in this round. For one thread."""

    def __init__(self) -> None:
        self._claimed: Counter[str] = Counter()
        self._had: set[str] = set()

    def note(self, claimed: Iterable[MessageMetadata]) -> None:
        """Take note of claimed messages."""
        self._claimed.update(record.route for record in claimed)
        for record in claimed:
            if self._claimed[record.route] >= _A_TURN:
                self._had.add(record.route)
        if len(self._had) > _MOST:
            self.begin_anew()

    def exclusions(self) -> frozenset[str]:
        """Return the routes that have had their turn."""
        return frozenset(self._had)

    def begin_anew(self) -> bool:
        """Begin the next round; tell whether any route had had its turn in the last one."""
        had_any = bool(self._had)
        self._claimed.clear()
        self._had.clear()
        return had_any
