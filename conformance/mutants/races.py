"""Mutants that hold as long as nobody else is there."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from retryspool_onefile_meta import OneFileMeta, store

from mutants.kinds import mutant
from retryspool import records
from retryspool.errors import MessageExistsError, MessageNotFoundError
from retryspool.memory import MemoryMeta
from retryspool.model import MessageMetadata, State, utc_now

PAUSE_S = 0.002
GAP_S = 0.1
_entered = threading.Condition()
_entries: Counter[str] = Counter()


def pause() -> None:
    """Take as long as a round trip does."""
    threading.Event().wait(PAUSE_S)


def gap(where: str = "") -> None:
    """Take as long as it takes another thread to come here too, as one does now and then: a slow round trip at most.

    :param where: who is elsewhere isn't waited for
    """
    with _entered:
        _entries[where] += 1
        own = _entries[where]
        _entered.notify_all()
        _entered.wait_for(lambda: _entries[where] > own, GAP_S)


@mutant("META-15")
class MoveReadsThenWrites(MemoryMeta):
    """A move looks at the state, and writes a moment later."""

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        moved = records.moved(self.get_meta(message_id), from_state, to_state, utc_now())
        gap(message_id)
        with self._store() as kept:
            return kept.put(moved)


@mutant("META-11")
class UpdateReadsThenWrites(MemoryMeta):
    """An update looks at the version, and writes a moment later."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        updated = records.updated(self.get_meta(message_id), metadata, utc_now(), if_version)
        gap(message_id)
        with self._store() as kept:
            return kept.put(updated)


@mutant("META-3")
class StoreLooksThenWrites(MemoryMeta):
    """A store looks whether the id is there, and writes a moment later."""

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        try:
            self.get_meta(message_id)
        except MessageNotFoundError:
            gap(message_id)
            with self._store() as kept:
                return kept.put(records.created(metadata, utc_now()))
        raise MessageExistsError(message_id)


@mutant("META-13")
class NotFoundOnTheMove(MemoryMeta):
    """A move takes the record out of one state before it's in the other."""

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        with self._store() as kept:
            moved = records.moved(kept.get(message_id), from_state, to_state, utc_now())
            kept.remove(message_id)
        pause()
        with self._store() as kept:
            return kept.put(moved)


@mutant("META-13")
class InTwoStatesAtOnce(MemoryMeta):
    """A message is still iterated in the state that it left."""

    def plant(self) -> None:
        self._former: dict[State, dict[str, MessageMetadata]] = {}

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        yield from super().iter_messages(state, batch_size)
        yield from self._former.get(state, {}).values()

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        old = self.get_meta(message_id)
        moved = super().move_to_state(message_id, from_state, to_state)
        if from_state is not to_state:
            self._former.setdefault(from_state, {})[message_id] = old
        return moved


@mutant("META-49")
class ReadsAreStale(MemoryMeta):
    """Each thread has a cache of its own, which is now and then asked instead of the store."""

    def plant(self) -> None:
        self._cached = threading.local()

    def get_meta(self, message_id: str) -> MessageMetadata:
        cache: dict[str, Any] = self._cached.__dict__.setdefault("records", {})
        turn = self._cached.__dict__["turn"] = self._cached.__dict__.get("turn", 0) + 1
        if turn % 2 == 0 and message_id in cache:
            return cache[message_id]
        cache[message_id] = super().get_meta(message_id)
        return cache[message_id]


@mutant("META-49")
class UpdatesAreLost(MemoryMeta):
    """Of two updates at once the one that began first wins, whichever ended last."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        stored = self.get_meta(message_id)
        gap(message_id)
        updated = super().update_meta(message_id, metadata, if_version=if_version)
        if if_version is None and updated.version > stored.version + 1:
            with self._store() as kept:
                kept.put(replace(stored, version=updated.version))
        return updated


@mutant("META-43")
class ThreadsShareABuffer(MemoryMeta):
    """What a thread is about to return lies in the instance, where another puts its own."""

    def get_meta(self, message_id: str) -> MessageMetadata:
        self._found = super().get_meta(message_id)
        gap()
        return self._found


@mutant("META-44")
class LocksHoldInAProcess(OneFileMeta):
    """Its lock is one between threads, and other processes know nothing of it."""

    _threads = threading.RLock()

    @contextmanager
    def _changing(self) -> Generator[dict[str, MessageMetadata]]:
        self._check()
        with self._threads:
            kept = self._store.read()
            yield kept
            pause()
            new = self._store.path.with_name(f"{os.getpid()}.{threading.get_ident()}")
            beside = store.FileStore(new)
            beside._save(kept)
            new.replace(self._store.path)


@mutant("META-45")
class AForkSharesTheConnection(OneFileMeta):
    """Requests go out and replies come in by one connection, which a forked child has too."""

    def plant(self) -> None:
        self._turns = os.pipe()

    def _read(self) -> dict[str, MessageMetadata]:
        self._check()
        # A connection, in small: a request and its reply, which the other process may be the one to get.
        token = os.getpid().to_bytes(4, "big")
        os.write(self._turns[1], token)
        threading.Event().wait(random.uniform(0, 2 * PAUSE_S))
        found = os.read(self._turns[0], 4)
        kept = super()._read()
        return kept if found == token else {each: replace(it, size=it.size + 1) for each, it in kept.items()}
