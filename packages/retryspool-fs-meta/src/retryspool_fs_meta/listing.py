"""The ids of one state in one order."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from typing import Any

from retryspool.meta import SortBy
from retryspool.model import State
from retryspool_fs_meta.schedule import Entry

__all__ = ["Listing"]

_MANY = 1000
_FEW = 64
"""So many new keys are sorted in one by one; more are appended and all sorted again."""


class Listing:
    """A state's ids, sorted when first asked for, and kept so at little cost until they are asked for again."""

    def __init__(self, entries: Mapping[str, Entry], state: State, sort_by: SortBy) -> None:
        self._entries = entries
        self._state = state
        self._attribute = sort_by.value
        self._fill()

    def _fill(self) -> None:
        self._keys: list[tuple[Any, str]] = sorted(
            self._key(message_id, entry) for message_id, entry in self._entries.items() if entry.state is self._state
        )
        self._new: list[tuple[Any, str]] = []
        self._void = 0
        self._is_behind = False

    def _key(self, message_id: str, entry: Entry) -> tuple[Any, str]:
        return getattr(entry, self._attribute), message_id

    def add(self, message_id: str, entry: Entry) -> None:
        """Take a message up."""
        if len(self._new) <= _MANY + len(self._keys):
            self._new.append(self._key(message_id, entry))
        else:  # nobody has listed for long: the next who does begins anew
            self._is_behind = True

    def remove(self) -> None:
        """Note that the entry of one of its messages is gone: its key is passed over from now on."""
        self._void += 1

    def walk(self, *, descending: bool) -> Iterator[str]:
        """Yield the ids in order."""
        if self._is_behind or self._void + len(self._new) > _FEW + len(self._keys):
            self._fill()
        elif len(self._new) <= _FEW:
            for key in self._new:
                insort(self._keys, key)
        else:
            self._keys += self._new
            self._keys.sort()
        self._new = []
        last = None
        for key in reversed(self._keys) if descending else self._keys:
            message_id = key[1]
            entry = self._entries.get(message_id)
            # A message that left and came back under the same key stands here twice.
            if entry is not None and entry.state is self._state and self._key(message_id, entry) == key != last:
                last = key
                yield message_id
