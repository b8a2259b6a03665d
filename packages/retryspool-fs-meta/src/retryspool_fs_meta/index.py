"""What is due, in which order, and how many there are: kept in memory, and never the truth.

The files are the truth. What the index names is looked up before anything is done with it, and what it has missed is
found by a survey. It answers what the directories can't without reading all of them: which message is next, how many
are in a state, and the first page of a listing.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

from retryspool.meta import ListOptions, ListResult, SortBy
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta.listing import Listing
from retryspool_fs_meta.schedule import Entry, Schedule

__all__ = ["Index"]


class Index:
    """Every message of the spool, as far as this process knows. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._schedules = {state: Schedule(self._entries) for state in State}
        self._listings: dict[tuple[State, SortBy], Listing] = {}
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

    def unseen(self, seen: Collection[str]) -> Collection[str]:
        """Return, before `end_scan`, what a whole scan has not seen and nobody has changed since it began."""
        with self._lock:
            return self._entries.keys() - seen - (self._touched or set())

    def put(self, record: MessageMetadata) -> None:
        """Note a message as it is now."""
        with self._lock:
            self._touch(record.id)
            self._put(record)

    def put_read(self, message_id: str, record: MessageMetadata | None, number: int) -> bool:
        """Note a message as it was read without its lock, unless it was noted since: then what was read may be older.

        :param number: what `number_of` said before it was read
        """
        with self._lock:
            if number != self.number_of(message_id):
                return False
            if self._touched is not None:
                self._touched.add(message_id)
            if record is None:
                self._remove(message_id)
            else:
                self._put(record)
            return True

    def remove(self, message_id: str) -> None:
        """Note that a message is gone."""
        with self._lock:
            self._touch(message_id)
            self._remove(message_id)

    def put_back(self, message_ids: Iterable[str]) -> None:
        """Undo `take_due` for messages that the claim did not get to."""
        with self._lock:
            self._put_back(message_ids)

    def _put_back(self, message_ids: Iterable[str]) -> None:
        for message_id in message_ids:
            entry = self._entries.get(message_id)
            if entry is not None:
                self._schedules[entry.state].put_back([(entry.due, message_id, entry.number)])

    def _touch(self, message_id: str) -> None:
        if self._touched is not None:
            self._touched.add(message_id)

    def _put(self, record: MessageMetadata) -> None:
        self._remove(record.id)
        self._number += 1
        entry = self._entries[record.id] = Entry(record, self._number)
        self._schedules[entry.state].add(record.id, entry)
        for listing in self._listings_of(entry.state):
            listing.add(record.id, entry)

    def _remove(self, message_id: str) -> None:
        entry = self._entries.pop(message_id, None)
        if entry is not None:
            self._schedules[entry.state].remove()
            for listing in self._listings_of(entry.state):
                listing.remove()

    def _listings_of(self, state: State) -> Iterator[Listing]:
        return (listing for (of, _), listing in self._listings.items() if of is state)

    # -- answers -------------------------------------------------------------------------------------------------------

    def state_of(self, message_id: str) -> State | None:
        """Return the state that a message was last seen in."""
        entry = self._entries.get(message_id)
        return None if entry is None else entry.state

    def number_of(self, message_id: str) -> int:
        """Return what changes whenever a message is noted."""
        entry = self._entries.get(message_id)
        return 0 if entry is None else entry.number

    def count(self, state: State) -> int:
        """Return how many messages are in a state."""
        return self._schedules[state].count

    def oldest_due(self, state: State) -> datetime | None:
        """Return when the message of a state that is due first is or was due."""
        with self._lock:
            return self._schedules[state].oldest_due()

    def take_due(
        self,
        sources: Sequence[State],
        limit: int,
        now: datetime,
        excluded: Collection[str],
        *,
        oldest_first: bool = False,
    ) -> list[str]:
        """Take out the ids that a claim should try, in order; each must be put again, put back or removed.

        Expired leases come first, of messages that were claimed from one of `sources`.
        """
        with self._lock:
            taken = self._take_expired(sources, limit, now, excluded, oldest_first=oldest_first)
            for state in sources:
                if len(taken) < limit:
                    schedule = self._schedules[state]
                    taken += schedule.take_due(limit - len(taken), now, excluded, oldest_first=oldest_first)
            return taken

    def _take_expired(
        self, sources: Sequence[State], limit: int, now: datetime, excluded: Collection[str], *, oldest_first: bool
    ) -> list[str]:
        active = self._schedules[State.ACTIVE]
        oldest = active.oldest_due()
        if oldest is None or oldest > now:
            return []
        wanted: list[str] = []
        others: list[str] = []
        for message_id in active.take_due(active.count, now, excluded, oldest_first=oldest_first):
            claimed_from = self._entries[message_id].claimed_from
            fits = len(wanted) < limit and (claimed_from is None or claimed_from in sources)
            (wanted if fits else others).append(message_id)
        self._put_back(others)
        return wanted

    def list(self, state: State, options: ListOptions) -> ListResult:
        """Return a page of a listing."""
        with self._lock:
            if options.since is None:
                total = self.count(state)
                matching = self._in_order(state, options) if options.limit else iter(())
            else:
                found = [each for each in self._in_order(state, options) if self._is_since(each, options.since)]
                total = len(found)
                matching = iter(found)
            page = tuple(islice(matching, options.offset, options.offset + options.limit))
            return ListResult(page, total, has_more=options.offset + len(page) < total)

    def _in_order(self, state: State, options: ListOptions) -> Iterator[str]:
        listing = self._listings.get((state, options.sort_by))
        if listing is None:
            listing = self._listings[state, options.sort_by] = Listing(self._entries, state, options.sort_by)
        return listing.walk(descending=options.descending)

    def _is_since(self, message_id: str, since: datetime) -> bool:
        entry = self._entries[message_id]
        return entry.created >= since or entry.updated >= since
