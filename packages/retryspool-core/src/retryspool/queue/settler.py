"""Settling: the thread through which every result of a worker goes, and which renews its leases meanwhile.

While one batch is being written the next gathers, so that batches are as large as they are worth, and a lone result
waits for nothing. That one thread both renews and settles makes it easy to settle by the version of the last renewal.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from queue import Empty, SimpleQueue

from retryspool import records
from retryspool.deadline import deadline
from retryspool.errors import BackendClosedError, BackendError, MessageNotFoundError, StateConflictError, StorageError
from retryspool.meta import Delete, Update, WriteResult
from retryspool.model import MessageMetadata, utc_now
from retryspool.queue.capacity import Capacity
from retryspool.queue.counters import CounterName, Counters
from retryspool.queue.message import Job
from retryspool.queue.observing import Observers
from retryspool.queue.outcome import Rules, Settlement, error_text
from retryspool.queue.telling import log_settled, told
from retryspool.spool import Spool

__all__ = ["Settler"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LEAST_PATIENCE_S = 1.0
"""How long the store has at least to take a batch of results, however short the lease."""


class Settler:
    """Keeps the leases of a worker's messages, and settles them."""

    def __init__(
        self, spool: Spool, rules: Rules, counters: Counters, capacity: Capacity, observers: Observers
    ) -> None:
        self._spool = spool
        self._rules = rules
        self._counters = counters
        self._capacity = capacity
        self._observers = observers
        self._lease_s: float = rules.options.lease_s
        self._patience_s = max(_LEAST_PATIENCE_S, self._lease_s / 3)  # else the leases of all others would be over
        self._batch_size = rules.options.batch_size
        self._inbox: SimpleQueue[Job | Callable[[], object] | None] = SimpleQueue()
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()  # of _jobs
        self._waiting: list[Job] = []
        self._failed: list[Job] = []
        self._renew_at = 0.0
        self._closing = False
        self._abandoned = False

    # -- for other threads ---------------------------------------------------------------------------------------------

    def add(self, claimed: Iterable[MessageMetadata], since: float) -> list[Job]:
        """Take over the leases of messages that were just claimed.

        :param since: when the claim began, by the monotonic clock
        :returns: those to be handled: not those whose handler still runs here, its lease having expired meanwhile
        """
        jobs: list[Job] = []
        expires = since + self._lease_s
        with self._lock:
            for record in claimed:
                if record.id in self._jobs:
                    self._inbox.put(partial(self._adopt, record, expires))
                else:
                    self._jobs[record.id] = job = Job(record, expires)
                    jobs.append(job)
        return jobs

    def has(self, message_id: str) -> bool:
        """Tell whether a message's lease is kept here."""
        with self._lock:
            return message_id in self._jobs

    def put(self, job: Job) -> None:
        """Settle a job by its outcome."""
        self._inbox.put(job)
        if self._abandoned:
            _log.warning(
                "message %s: its handler is done, but the queue is closed: it'll be delivered again", job.record.id
            )
            self._observers.lost(job.record)

    def rewrite(self, job: Job, change: Callable[[MessageMetadata], MessageMetadata]) -> bool:
        """Change the record of a message that stays under its lease, and wait for that; returns False if it can't be.

        Only the thread that renews knows the record as it is.
        """
        done: SimpleQueue[bool] = SimpleQueue()

        def rewrite() -> None:
            try:
                done.put(self._rewrite(job, change(job.record)))
            except Exception:  # noqa: BLE001 -- the thread goes on, whatever a backend raises
                _log.exception("message %s: its record can't be stored", job.record.id)
                done.put(item=False)

        self._inbox.put(rewrite)
        try:
            return done.get(timeout=self._lease_s)
        except Empty:
            return False

    def close(self) -> None:
        """Let `run()` end once everything is settled; nothing is added any more."""
        self._closing = True
        self._inbox.put(None)

    def abandon(self) -> None:
        """Let `run()` end now: what isn't settled is delivered again when its lease has expired."""
        self._abandoned = True
        with self._lock:
            for job in self._jobs.values():
                job.taken = True
        self._inbox.put(None)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Settle and renew until closed."""
        while not self._abandoned and (self._jobs or not self._closing):
            self._gather()
            if self._waiting:
                batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
                try:
                    self._settle(batch)
                except Exception:  # noqa: BLE001 -- the thread goes on, whatever a backend raises
                    _log.exception("settling failed: %d messages are left until their leases expire", len(batch))
                    self._end(batch)
            if time.monotonic() >= self._renew_at:
                self._renew_at = time.monotonic() + self._lease_s / 6
                try:
                    self._renew()
                except Exception:  # noqa: BLE001 -- the thread goes on, whatever a backend raises
                    _log.exception("renewing leases failed")

    def _gather(self) -> None:
        """Wait for results, and take what there is; also what is to be tried again now."""
        until = 0.0 if self._waiting else min(self._renew_at, *(job.try_at for job in self._failed), math.inf)
        try:
            item = self._inbox.get(timeout=max(0.0, until - time.monotonic()))
            while True:
                if isinstance(item, Job):
                    self._waiting.append(item)
                elif item is not None:
                    item()
                if len(self._waiting) >= self._batch_size:
                    break
                item = self._inbox.get_nowait()
        except Empty:
            pass
        now = time.monotonic()
        self._waiting += [job for job in self._failed if job.try_at <= now]
        self._failed = [job for job in self._failed if job.try_at > now]

    def _adopt(self, again: MessageMetadata, expires: float) -> None:
        """Give a message that this worker claimed again to the handler that still runs; if none does, release it."""
        job = self._jobs.get(again.id)
        if job is None:
            self._apply([Settlement(Update(records.released(again), again.version), ())])
        else:
            job.record, job.expires, job.taken = again, expires, False

    def _rewrite(self, job: Job, new: MessageMetadata) -> bool:
        if job.taken:
            return False
        (result,) = self._apply([Settlement(Update(new, if_version=job.record.version), ())])
        if isinstance(result, StorageError) and not isinstance(result, (StateConflictError, MessageNotFoundError)):
            result = self._found(job, new, result)
        if isinstance(result, MessageMetadata):
            job.record = result
            self._renew_now([job])  # also since settling goes by when that was
            return not job.taken
        _log.warning("message %s: its record can't be stored: %s", job.record.id, result)
        job.taken = isinstance(result, (StateConflictError, MessageNotFoundError))
        return False

    def _found(self, job: Job, new: MessageMetadata, error: StorageError) -> WriteResult:
        """Return the new record if it's stored, although the store has answered by an error."""
        with suppress(StorageError):
            found = self._spool.get(job.record.id)
            if found.lease_owner == new.lease_owner and found.version == job.record.version + 1:
                return found
        return error

    def _settle(self, jobs: Sequence[Job]) -> None:
        batch = [
            (job, self._rules.settle(job.record, job.outcome, self._now(job)))
            for job in jobs
            if job.outcome and not job.taken
        ]
        results = self._apply([settlement for _, settlement in batch])
        counts: Counter[CounterName] = Counter()
        failed: dict[Job, StorageError] = {}
        for (job, settlement), result in zip(batch, results, strict=True):
            if isinstance(result, (StateConflictError, MessageNotFoundError)):
                # A deletion that was tried before and didn't answer has had its effect.
                if job.tries and isinstance(result, MessageNotFoundError) and isinstance(settlement.write, Delete):
                    self._settled(job, settlement, counts)
                else:
                    job.taken = True
            elif isinstance(result, StorageError):
                failed[job] = result
            else:
                self._settled(job, settlement, counts)
        self._try_again(failed)
        done = [job for job in jobs if job not in failed]
        for job in done:
            if job.taken:
                counts["lost_leases"] += 1
                _log.warning(
                    "message %s: its lease was lost, and so its result is discarded",
                    job.record.id,
                    extra={"message_id": job.record.id, "route": job.record.route},
                )
                self._observers.lost(job.record)
        self._end(done)
        for name, count in counts.items():
            self._counters.add(name, count)
        self._counters.add("handler_seconds", sum(job.seconds for job in done))

    def _settled(self, job: Job, settlement: Settlement, counts: Counter[CounterName]) -> None:
        """Take note of a result that is stored."""
        counts.update(settlement.counts)
        log_settled(job, settlement)
        if self._observers.all:
            self._observers.settled(told(job, settlement))

    def _now(self, job: Job) -> datetime:
        """Return the time by the clock that decides when the message is due again: the store's, where it has one.

        That one has dated the claim, or its last renewal, and since then the monotonic clock has gone on.
        """
        if not self._spool.meta.capabilities.server_clock:
            return utc_now()
        return job.record.updated + timedelta(seconds=time.monotonic() - (job.expires - self._lease_s))

    def _apply(self, settlements: Sequence[Settlement]) -> list[WriteResult]:
        writes = [settlement.write for settlement in settlements]
        try:
            with deadline(self._patience_s):
                return self._spool.apply(writes) if writes else []
        except StorageError as error:
            return [error] * len(writes)
        except Exception as error:  # noqa: BLE001 -- whatever a backend raises, each result is tried by itself
            _log.exception("settling %d messages failed", len(writes))
            if len(writes) > 1:  # one of them may be what's wrong
                return [result for settlement in settlements for result in self._apply([settlement])]
            failure = BackendError(f"settling failed: {error_text(error)}")
            failure.__cause__ = error
            return [failure]

    def _try_again(self, failed: dict[Job, StorageError]) -> None:
        """Keep results that the store didn't take, and try again for the time of a lease; forget the others."""
        now = time.monotonic()
        for job, error in list(failed.items()):
            if not job.tries:
                job.try_until = now + self._lease_s
            if job.lost or now >= job.try_until or isinstance(error, BackendClosedError):
                del failed[job]
                job.taken = True
                _log.error("message %s: its result can't be stored: %s", job.record.id, error)
            else:
                job.try_at = now + min(_FIRST_PAUSE_S * 2**job.tries, self._lease_s / 6)
                job.tries += 1
        if failed:
            error = next(iter(failed.values()))
            _log.warning("%d results couldn't be stored, and are tried again soon: %s", len(failed), error)
        self._failed += failed

    def _end(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            for job in jobs:
                del self._jobs[job.record.id]
        self._capacity.settled(len(jobs))

    def _renew(self) -> None:
        """Renew the leases of which a third is over."""
        soon = time.monotonic() + self._lease_s * 2 / 3
        with self._lock:
            due = [job for job in self._jobs.values() if job.expires <= soon and not job.taken]
        for start in range(0, len(due), self._batch_size):
            self._renew_now(due[start : start + self._batch_size])

    def _renew_now(self, batch: Sequence[Job]) -> None:
        since = time.monotonic()
        try:
            results = self._spool.meta.renew([job.record for job in batch], lease=timedelta(seconds=self._lease_s))
        except StorageError as error:
            results = [error] * len(batch)
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, MessageMetadata):
                job.record, job.expires = result, since + self._lease_s
            elif isinstance(result, (StateConflictError, MessageNotFoundError)):
                job.taken = True
                _log.warning("message %s: the lease is lost while its handler runs: %s", job.record.id, result)
            else:
                _log.warning("message %s: its lease can't be renewed: %s", job.record.id, result)
