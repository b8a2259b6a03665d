"""What is due, in which order, and how many there are: kept in memory, and never the truth.

The files are the truth. What the index names is looked up before anything is done with it, and what it has missed is found
by a rescan. It answers what the directories can't without reading all of them: which message is next, how many are in a
state, and the first page of a listing.
"""

from __future__ import annotations

import heapq
import threading
from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from retryspool import records
from retryspool.meta import ListOptions, ListResult, SortBy
from retryspool.model import MessageMetadata, State

__all__ = ["Index"]

_FEW = 64
"""So many new keys are sorted into a listing one by one; more are appended and all sorted again."""


class _Entry:
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


class _Schedule:
    """The messages of one state by when they are due, and those that are, by priority and route.

    Heaps hold `(due, id, number)`, or `(priority, due, id, number)`, and what became void: it's dropped when it comes up, or when
    there's too much of it.
    """

    def __init__(self) -> None:
        self.count = 0
        self._by_due: list[tuple[datetime, str, int]] = []
        self._waiting: list[tuple[datetime, str, int]] = []
        self._ready: dict[str, list[tuple[int, datetime, str, int]]] = {}

    def add(self, message_id: str, entry: _Entry) -> None:
        self.count += 1
        item = (entry.due, message_id, entry.number)
        heapq.heappush(self._by_due, item)
        heapq.heappush(self._waiting, item)

    def oldest_due(self, entries: dict[str, _Entry]) -> datetime | None:
        heap = self._by_due
        while heap and not _is_current(entries, heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(
        self, entries: dict[str, _Entry], limit: int, now: datetime, excluded: Collection[str]
    ) -> list[tuple[int, datetime, str, int]]:
        """Take out up to `limit` that are due, by priority, then the oldest due."""
        self._promote(entries, now)
        heads = [
            (heap[0], route)
            for route, heap in self._ready.items()
            if route not in excluded and self._clean(entries, heap, now)
        ]
        heapq.heapify(heads)
        taken: list[tuple[int, datetime, str, int]] = []
        while heads and len(taken) < limit:
            item, route = heads[0]
            heap = self._ready[route]
            heapq.heappop(heap)
            taken.append(item)
            if self._clean(entries, heap, now):
                heapq.heapreplace(heads, (heap[0], route))
            else:
                heapq.heappop(heads)
        for route in [route for route, heap in self._ready.items() if not heap]:
            del self._ready[route]
        return taken

    def put_back(self, items: Iterable[tuple[datetime, str, int]]) -> None:
        for item in items:
            heapq.heappush(self._waiting, item)

    def _promote(self, entries: dict[str, _Entry], now: datetime) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            item = heapq.heappop(waiting)
            if _is_current(entries, item):
                due, message_id, number = item
                entry = entries[message_id]
                heapq.heappush(self._ready.setdefault(entry.route, []), (entry.priority, due, message_id, number))

    def _clean(self, entries: dict[str, _Entry], heap: list[tuple[int, datetime, str, int]], now: datetime) -> bool:
        """Drop what is void from the top; tell whether anything is left. The clock may have gone back meanwhile."""
        while heap:
            priority_due = heap[0]
            if not _is_current(entries, priority_due[1:]):
                heapq.heappop(heap)
            elif priority_due[1] > now:
                self.put_back([heapq.heappop(heap)[1:]])
            else:
                return True
        return False

    def compact(self, entries: dict[str, _Entry]) -> None:
        """Throw out what is void if it's more than what isn't."""
        if len(self._by_due) > 2 * self.count + 1000:
            self._by_due = [item for item in self._by_due if _is_current(entries, item)]
            heapq.heapify(self._by_due)
        if len(self._waiting) > 2 * self.count + 1000:
            self._waiting = [item for item in self._waiting if _is_current(entries, item)]
            heapq.heapify(self._waiting)


def _is_current(entries: dict[str, _Entry], item: tuple[datetime, str, int]) -> bool:
    entry = entries.get(item[1])
    return entry is not None and entry.number == item[2]


class _Listing:
    """The ids of a state in one order: sorted once, then kept so at little cost until the next time it's asked for."""

    def __init__(self, state: State, sort_by: SortBy) -> None:
        self._state = state
        self._attribute = sort_by.value
        self._keys: list[tuple[object, str]] = []
        self._new: list[tuple[object, str]] = []
        self._void = 0

    def fill(self, entries: dict[str, _Entry]) -> None:
        state, attribute = self._state, self._attribute
        self._keys = sorted((getattr(entry, attribute), i) for i, entry in entries.items() if entry.state is state)  # type: ignore[type-var]
        self._new = []
        self._void = 0

    def add(self, message_id: str, entry: _Entry) -> None:
        self._new.append((getattr(entry, self._attribute), message_id))

    def remove(self) -> None:
        self._void += 1

    def walk(self, entries: dict[str, _Entry], *, descending: bool) -> Iterator[str]:
        """Yield the ids in order."""
        if self._void > _FEW + len(self._keys) // 2:
            self.fill(entries)
        if len(self._new) <= _FEW:
            for key in self._new:
                insort(self._keys, key)  # type: ignore[type-var]
        else:
            self._keys += self._new
            self._keys.sort()  # type: ignore[type-var]
        self._new = []
        last = None
        for key in reversed(self._keys) if descending else self._keys:
            value, message_id = key
            entry = entries.get(message_id)
            # A message that left and came back under the same key stands here twice.
            if (
                entry is not None
                and entry.state is self._state
                and getattr(entry, self._attribute) == value
                and key != last
            ):
                last = key
                yield message_id


class Index:
    """Every message of the spool, as far as this process knows. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._schedules = {state: _Schedule() for state in State}
        self._listings: dict[tuple[State, SortBy], _Listing] = {}
        self._number = 0
        self._touched: set[str] | None = None

    # -- changes -------------------------------------------------------------------------------------------------------

    def begin_scan(self) -> None:
        """From now on until `end_scan`, what `put` and `remove` say is newer than what `put_scanned` says."""
        with self._lock:
            self._touched = set()

    def end_scan(self) -> None:
        """End what `begin_scan` began."""
        with self._lock:
            self._touched = None

    def put_scanned(self, record: MessageMetadata) -> None:
        """Note a message that a scan has found, unless it was changed since the scan began."""
        with self._lock:
            if self._touched is not None and record.id not in self._touched:
                self._put(record)

    def put(self, record: MessageMetadata) -> None:
        """Note a message as it is now."""
        with self._lock:
            if self._touched is not None:
                self._touched.add(record.id)
            self._put(record)

    def remove(self, message_id: str) -> None:
        """Note that a message is gone."""
        with self._lock:
            if self._touched is not None:
                self._touched.add(message_id)
            self._remove(message_id)

    def unseen(self, seen: Collection[str]) -> Collection[str]:
        """Return, before `end_scan`, what a whole scan has not seen and nobody has changed since it began."""
        with self._lock:
            return self._entries.keys() - seen - (self._touched or set())

    def put_back(self, message_ids: Iterable[str]) -> None:
        """Undo `take_due` for messages that the claim did not get to."""
        with self._lock:
            for message_id in message_ids:
                entry = self._entries.get(message_id)
                if entry is not None:
                    self._schedules[entry.state].put_back([(entry.due, message_id, entry.number)])

    def _put(self, record: MessageMetadata) -> None:
        self._remove(record.id)
        self._number += 1
        entry = _Entry(record, self._number)
        self._entries[record.id] = entry
        self._schedules[entry.state].add(record.id, entry)
        for (state, _), listing in self._listings.items():
            if state is entry.state:
                listing.add(record.id, entry)

    def _remove(self, message_id: str) -> None:
        entry = self._entries.pop(message_id, None)
        if entry is None:
            return
        schedule = self._schedules[entry.state]
        schedule.count -= 1
        schedule.compact(self._entries)
        for (state, _), listing in self._listings.items():
            if state is entry.state:
                listing.remove()

    # -- answers -------------------------------------------------------------------------------------------------------

    def state_of(self, message_id: str) -> State | None:
        """Return the state that a message was last seen in."""
        entry = self._entries.get(message_id)
        return None if entry is None else entry.state

    def count(self, state: State) -> int:
        """Return how many messages are in a state."""
        return self._schedules[state].count

    def oldest_due(self, state: State) -> datetime | None:
        """Return when the message of a state that is due first is or was due."""
        with self._lock:
            return self._schedules[state].oldest_due(self._entries)

    def take_due(self, sources: Sequence[State], limit: int, now: datetime, excluded: Collection[str]) -> list[str]:
        """Take out the ids that a claim should try, in order; each must be put again, put back or removed.

        Expired leases come first, of messages that were claimed from one of `sources`.
        """
        with self._lock:
            taken = self._take_expired(sources, limit, now, excluded)
            for state in sources:
                if len(taken) == limit:
                    break
                popped = self._schedules[state].pop_due(self._entries, limit - len(taken), now, excluded)
                taken += [message_id for _, _, message_id, _ in popped]
            return taken

    def _take_expired(
        self, sources: Sequence[State], limit: int, now: datetime, excluded: Collection[str]
    ) -> list[str]:
        schedule = self._schedules[State.ACTIVE]
        oldest = schedule.oldest_due(self._entries)
        if oldest is None or oldest > now:
            return []
        wanted: list[str] = []
        others: list[tuple[int, datetime, str, int]] = []
        for item in schedule.pop_due(self._entries, len(self._entries), now, excluded):
            claimed_from = self._entries[item[2]].claimed_from
            if len(wanted) < limit and (claimed_from is None or claimed_from in sources):
                wanted.append(item[2])
            else:
                others.append(item)
        schedule.put_back(item[1:] for item in others)
        return wanted

    def list(self, state: State, options: ListOptions) -> ListResult:
        """Return a page of a listing."""
        with self._lock:
            listing = self._listings.get((state, options.sort_by))
            if listing is None:
                listing = self._listings[state, options.sort_by] = _Listing(state, options.sort_by)
                listing.fill(self._entries)
            if options.since is None:
                total = self.count(state)
                if not options.limit:
                    return ListResult((), total, has_more=options.offset < total)
            matching = listing.walk(self._entries, descending=options.descending)
            if options.since is not None:
                found = [i for i in matching if self._is_since(i, options.since)]
                total = len(found)
                matching = iter(found)
            page = tuple(islice(matching, options.offset, options.offset + options.limit))
            return ListResult(page, total, has_more=options.offset + len(page) < total)

    def _is_since(self, message_id: str, since: datetime) -> bool:
        entry = self._entries[message_id]
        return entry.created >= since or entry.updated >= since
