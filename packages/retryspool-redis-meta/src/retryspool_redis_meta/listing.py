"""Listings: a state's ids walked in pieces, of which only the page that was asked for is kept."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from retryspool.meta import ListOptions, ListResult
from retryspool.model import State
from retryspool_redis_meta.codec import state_text, time_text
from retryspool_redis_meta.link import Link
from retryspool_redis_meta.scripts import WALK

__all__ = ["listed"]

_AT_ONCE = 500
"""How many messages the server looks at in one step: one or two milliseconds."""


class _Entry(NamedTuple):
    """What sorts a message, and its id."""

    key: int
    message_id: str


def listed(link: Link, state: State, options: ListOptions) -> ListResult:
    """List a page: one look at every message of the state, with memory for the page and those before it."""
    walk = _Walk(link, state, options)
    end = options.offset + options.limit
    first = heapq.nlargest if options.descending else heapq.nsmallest
    page = first(end, walk) if options.limit else []
    for _ in walk:  # nothing was kept of a page without end; what is left is counted
        pass
    ids = tuple(entry.message_id for entry in page[options.offset :])
    return ListResult(message_ids=ids, total=walk.count, has_more=options.offset + len(ids) < walk.count)


class _Walk:
    """The messages that match, and how many they were."""

    def __init__(self, link: Link, state: State, options: ListOptions) -> None:
        self._link = link
        self._state = state_text(state)
        self._sort_by = options.sort_by.value
        self._since = None if options.since is None else time_text(options.since)
        self._entries = self._walk()
        self.count = 0

    def __iter__(self) -> Iterator[_Entry]:
        return self._entries

    def _walk(self) -> Iterator[_Entry]:
        after: str | bytes = ""
        while True:
            fields = [self._sort_by] if self._since is None else [self._sort_by, "created", "updated"]
            number, after, lines = self._link.read(WALK, self._state, after, _AT_ONCE, *fields)
            for line in lines.decode().split("\n") if lines else ():
                message_id, key, *times = line.split(" ")
                if self._since is None or max(times) >= self._since:
                    self.count += 1
                    yield _Entry(int(key, 16), message_id)  # decimal numbers sort the same if read so
            if number < _AT_ONCE:
                return
