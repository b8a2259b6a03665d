"""A thread that keeps what readers read and writers write from being swept, and clears away what they leave behind."""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING
from uuid import UUID

from retryspool.deadline import deadline
from retryspool.errors import StorageError

if TYPE_CHECKING:
    from retryspool_pg_data.store import Store

__all__ = ["LEASE", "Hold", "Keeper", "Kind"]

_log = logging.getLogger("retryspool_pg_data")

LEASE = timedelta(minutes=10)
"""How long a generation that was replaced or deleted is kept for a reader whose process may have died."""
_RENEW_S = LEASE.total_seconds() / 4
_FINISH_S = 1.0
"""How long closing may take to clear away what is left: else a sweep does."""


class Kind(enum.Enum):
    """Who holds a generation."""

    READER = "reader"
    WRITER = "writer"


@dataclass(frozen=True, slots=True)
class Hold:
    """What a reader or a writer has hold of."""

    kind: Kind
    holder: UUID
    """The reader's own id, or again the generation."""
    generation: UUID


class Keeper:
    """Renews what is held, in a thread of its own that lives while there's something."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: set[Hold] = set()
        self._left: SimpleQueue[Hold | None] = SimpleQueue()
        self._finished = False
        self._thread: threading.Thread | None = None

    def keep(self, hold: Hold) -> None:
        """Begin to renew it."""
        with self._lock:
            self._held.add(hold)
            if self._thread is None:
                # In a context of its own: the deadline of whoever happens to be first isn't the thread's.
                self._thread = threading.Thread(
                    target=Context().run, args=(self._run,), name="retryspool-pg-data", daemon=True
                )
                self._thread.start()

    def leave(self, hold: Hold) -> None:
        """Let the thread clear it away. It takes no lock and does no I/O: a finalizer may call it, anywhere."""
        self._left.put(hold)

    def settle(self, hold: Hold) -> None:
        """Renew it no more: there's nothing left to clear away."""
        with self._lock:
            self._held.discard(hold)
        self._left.put(None)

    def finish(self) -> None:
        """Close the connections, at once if nothing is held, else when that is so."""
        with deadline(_FINISH_S), suppress(Empty, StorageError):
            while True:
                self._end(self._left.get_nowait())
        with self._lock:
            self._finished = True
            is_idle = self._thread is None
        if is_idle:
            self._store.connections.close()
        else:
            self._left.put(None)

    def _run(self) -> None:
        renew_at = time.monotonic() + _RENEW_S
        while True:
            try:
                hold = self._left.get(timeout=max(renew_at - time.monotonic(), 0))
            except Empty:
                self._try(self._renew)
                renew_at = time.monotonic() + _RENEW_S
                continue
            self._try(partial(self._end, hold))
            with self._lock:
                if not self._held and self._left.empty():
                    self._thread = None
                    break
        if self._finished:
            self._store.connections.close()

    def _end(self, hold: Hold | None) -> None:
        if hold is not None:
            try:
                self._clear_away(hold)
            finally:
                with self._lock:
                    self._held.discard(hold)

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except StorageError as error:
            _log.debug("what is read or written isn't renewed, or not cleared away, for now: %s", error)

    def _renew(self) -> None:
        with self._lock:
            held = list(self._held)
        statements = self._store.statements
        readers = [hold.holder for hold in held if hold.kind is Kind.READER]
        writers = [hold.holder for hold in held if hold.kind is Kind.WRITER]
        if readers:
            self._store.run("renewing what is read", statements.renew_readers, (LEASE, readers), effect=True)
        if writers:
            self._store.run("renewing what is written", statements.renew_writers, (writers,), effect=True)

    def _clear_away(self, hold: Hold) -> None:
        doing = f"clearing away what a {hold.kind.value} has left"
        if hold.kind is Kind.READER:
            self._store.run(doing, self._store.statements.let_go, (hold.holder,), effect=True)
            self._store.remove_dropped([hold.generation], doing)
        else:
            self._store.drop(hold.generation, doing)
