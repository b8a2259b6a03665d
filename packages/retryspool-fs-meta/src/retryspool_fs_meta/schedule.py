"""The messages of one state by when they are due, and those that are, in a heap each by route and priority."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from retryspool import records
from retryspool.model import MessageMetadata

__all__ = ["Entry", "Schedule"]

_Due = tuple[datetime, str, int]
"""When, the id, and the number of the entry that it was made from."""
_Lane = tuple[str, int]
"""A route and a priority."""

_SLACK = 1000
"""So much that is void is left in the heaps whatever is in them that isn't."""


class Entry:
    """What the index knows of one message."""

    __slots__ = (
        "attempts",
        "claimed_from",
        "created",
        "due",
        "next_retry",
        "number",
        "priority",
        "route",
        "state",
        "updated",
    )

    def __init__(self, record: MessageMetadata, number: int) -> None:
        self.number = number
        """Unique to each change: what is still in a heap under an older number is void."""
        self.state = record.state
        self.due = records.due_at(record)
        self.priority = record.priority
        self.route = record.route
        self.claimed_from = record.claimed_from
        self.created = record.created
        self.updated = record.updated
        self.attempts = record.attempts
        self.next_retry = record.next_retry


class Schedule:
    """The order of one state's messages, in heaps.

    A change isn't looked for in them: the new item is added, and the old one, void by its number, is dropped when it
    comes up, or with all others when there are too many.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self.count = 0
        self._all: list[_Due] = []
        self._waiting: list[_Due] = []
        self._ready: dict[_Lane, list[_Due]] = {}
        self._ready_count = 0

    def add(self, message_id: str, entry: Entry) -> None:
        """Take a message up."""
        self.count += 1
        item = (entry.due, message_id, entry.number)
        heapq.heappush(self._all, item)
        heapq.heappush(self._waiting, item)

    def remove(self) -> None:
        """Note that the entry of one of its messages is gone."""
        self.count -= 1
        most = 2 * self.count + _SLACK
        if len(self._all) > most:
            self._all = self._current(self._all)
        if len(self._waiting) > most:
            self._waiting = self._current(self._waiting)
        if self._ready_count > most:
            self.put_back(item for heap in self._ready.values() for item in heap if self._is_current(*item[1:]))
            self._ready = {}
            self._ready_count = 0

    def oldest_due(self) -> datetime | None:
        """Return when the message that is due first is or was due."""
        while self._all:
            due, message_id, number = self._all[0]
            if self._is_current(message_id, number):
                return due
            heapq.heappop(self._all)
        return None

    def take_due(
        self, limit: int, now: datetime, excluded: Collection[str], *, oldest_first: bool = False
    ) -> list[str]:
        """Take out up to `limit` that are due, by priority, then the oldest due; or the oldest due of all."""
        self._promote(now)
        heads = [
            (0 if oldest_first else priority, heap[0], (route, priority))
            for (route, priority), heap in self._ready.items()
            if route not in excluded and self._settle(heap, now)
        ]
        heapq.heapify(heads)
        taken: list[str] = []
        while heads and len(taken) < limit:
            rank, (_, message_id, _), lane = heads[0]
            heap = self._ready[lane]
            self._pop(heap)
            taken.append(message_id)
            if self._settle(heap, now):
                heapq.heapreplace(heads, (rank, heap[0], lane))
            else:
                heapq.heappop(heads)
        for lane in [lane for lane, heap in self._ready.items() if not heap]:
            del self._ready[lane]
        return taken

    def put_back(self, items: Iterable[_Due]) -> None:
        """Undo `take_due` for some."""
        for item in items:
            heapq.heappush(self._waiting, item)

    def _promote(self, now: datetime) -> None:
        """Let those whose time has come be ready."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            due, message_id, number = heapq.heappop(waiting)
            if self._is_current(message_id, number):
                entry = self._entries[message_id]
                lane = self._ready.setdefault((entry.route, entry.priority), [])
                heapq.heappush(lane, (due, message_id, number))
                self._ready_count += 1

    def _settle(self, heap: list[_Due], now: datetime) -> bool:
        """Drop what is void from the top, and what isn't due since the clock went back; tell whether any is left."""
        while heap:
            due, message_id, number = heap[0]
            if self._is_current(message_id, number):
                if due <= now:
                    return True
                self.put_back([(due, message_id, number)])
            self._pop(heap)
        return False

    def _pop(self, heap: list[_Due]) -> None:
        heapq.heappop(heap)
        self._ready_count -= 1

    def _is_current(self, message_id: str, number: int) -> bool:
        entry = self._entries.get(message_id)
        return entry is not None and entry.number == number

    def _current(self, heap: list[_Due]) -> list[_Due]:
        left = [item for item in heap if self._is_current(item[1], item[2])]
        heapq.heapify(left)
        return left
