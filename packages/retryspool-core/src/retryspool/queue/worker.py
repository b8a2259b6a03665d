"""A worker: the threads that claim, handle and settle, from one start to its stop."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence

from retryspool.model import MessageMetadata
from retryspool.queue.capacity import Capacity
from retryspool.queue.context import current
from retryspool.queue.counters import Counters
from retryspool.queue.crew import Crew
from retryspool.queue.dispatcher import Dispatcher
from retryspool.queue.handlers import Handlers
from retryspool.queue.isolation import Isolation
from retryspool.queue.lanes import Lanes
from retryspool.queue.message import Job
from retryspool.queue.observing import Observers
from retryspool.queue.outcome import Outcome, Released, Rules
from retryspool.queue.routes import RouteStatus, RouteTable
from retryspool.queue.runner import Runner
from retryspool.queue.settler import Settler
from retryspool.spool import Spool

__all__ = ["Worker"]

_log = logging.getLogger(__name__)

_CANCELLED_S = 5.0
"""How long coroutines that are cancelled when the grace time is over may take to end, in seconds."""
_ABANDON_S = 5.0
"""How long a write that is under way may take before the stores are closed under it, in seconds."""


def _new_owner() -> str:
    """Return a name that no other start of a worker has, on any machine."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:32]
    return f"{host}.{os.getpid()}.{secrets.token_hex(4)}"


class Worker:
    """One start of a queue's worker. It can't be started again; it doesn't run on in the child of a fork.

    :param routes: the limits by route
    :param prune: what is called now and then, to delete what is archived for long enough
    :param ended: what is called when the worker has ended
    :param until_idle: end once nothing is due and everything is settled
    :param loop: where handlers run that are coroutines; in a thread of the worker's own if None
    """

    def __init__(
        self,
        spool: Spool,
        rules: Rules,
        handlers: Handlers,
        counters: Counters,
        routes: RouteTable,
        *,
        observers: Observers,
        prune: Callable[[], object],
        ended: Callable[[], object],
        until_idle: bool,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        options = rules.options
        self.owner = _new_owner()
        self.ended = ended
        self._pid = os.getpid()
        self._rules = rules
        self._counters = counters
        self._observers = observers
        self._lanes = Lanes(routes, options.concurrency, turn_back=self._turn_back)
        self._capacity = Capacity(options, lambda: self._lanes.parked, lambda: self._lanes.is_kept_for_one)
        self._settler = Settler(spool, rules, counters, self._capacity, observers)
        self._dispatcher = Dispatcher(
            spool,
            options,
            handlers,
            self._capacity,
            self._lanes,
            owner=self.owner,
            hand_out=self._hand_out,
            until_idle=until_idle,
        )
        self._isolation = Isolation(
            self._lanes, self._capacity, self._settler, release=self._release, is_stopping=lambda: self._stopping
        )
        self._prune = prune
        self._stop_pruning = threading.Event()
        self._stopping = False
        self._grace_until = math.inf
        self._settling = self._thread("settler", self._settle)
        self._dispatching = self._thread("dispatcher", self._dispatch)
        self._crew = Crew(
            self._lanes,
            Runner(spool, handlers, observers),
            handlers,
            options.concurrency,
            loop=loop,
            before=self._before,
            refuse=self._refuse,
            finish=self._handled,
            is_here=lambda: self.is_here,
            is_stopping=lambda: self._stopping,
            lost=lambda: self.begin_stop(0),
        )
        keeps_for_ever = options.retention_s is None and options.bounce_retention_s is None
        self._pruning = [] if keeps_for_ever else [self._thread("pruner", self._prune_now_and_then)]

    def _thread(self, name: str, target: Callable[[], None]) -> threading.Thread:
        # Daemons: a handler that never returns must not keep a process from ending.
        return threading.Thread(target=target, name=f"retryspool-{name}", daemon=True)

    @property
    def _threads(self) -> list[threading.Thread]:
        return [self._settling, self._dispatching, *self._crew.threads, *self._pruning]

    @property
    def is_here(self) -> bool:
        """Whether its threads are this process's: not after a fork."""
        return self._pid == os.getpid()

    @property
    def is_running(self) -> bool:
        """Whether it takes messages."""
        return self.is_here and self._dispatching.is_alive() and not self._stopping

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more, in this process."""
        return not self.is_here or not any(thread.is_alive() for thread in self._threads)

    @property
    def stalled_s(self) -> float:
        """For how long it has tried in vain to claim, in seconds; 0 if it can, or needn't."""
        return self._dispatcher.stalled_s

    def routes(self) -> list[RouteStatus]:
        """Return what it knows of each destination, by name."""
        return self._lanes.status()

    def start(self) -> None:
        """Start its threads."""
        _log.info("worker %s starts", self.owner)
        self._crew.grow()
        for thread in (self._settling, self._dispatching, *self._pruning):
            thread.start()

    # -- stopping ------------------------------------------------------------------------------------------------------

    def begin_stop(self, grace_s: float) -> None:
        """Claim no more, release what hasn't begun, and end once what runs is done and settled.

        Coroutines that still run when the grace time is over are cancelled.
        """
        self._grace_until = min(self._grace_until, time.monotonic() + grace_s)
        self._stopping = True
        self._dispatcher.stop()
        self._crew.loop.cancel_after(grace_s)

    def join(self) -> bool:
        """Wait until it has ended; returns False if handlers still run when the grace time is over."""
        if threading.current_thread() in self._threads or self._crew.loop.is_current or self.is_handling(current.get()):
            return True  # a handler may stop its own queue; it can't wait for itself
        self._join(0)
        if self._crew.has_coroutines:
            self._join(_CANCELLED_S)
        return self.has_ended

    def _join(self, more_s: float) -> None:
        for thread in self._threads:
            thread.join(max(0.0, self._grace_until + more_s - time.monotonic()))

    def is_handling(self, message_id: str | None) -> bool:
        """Tell whether it has this message under its lease."""
        return message_id is not None and self._settler.has(message_id)

    def abandon(self) -> None:
        """Settle no more: what still runs keeps its lease until that expires, and is delivered again."""
        self._settler.abandon()
        self._settling.join(_ABANDON_S)

    # -- the threads ---------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        try:
            self._dispatcher.run()
        finally:
            self._stopping = True
            self._stop_pruning.set()
            self._lanes.close()
            for job in self._lanes.drain():
                self._release(job)
            self._settler.close()

    def _hand_out(self, claimed: Sequence[MessageMetadata], since: float) -> None:
        self._crew.grow()
        self._counters.add("claimed", len(claimed))
        self._observers.claimed(claimed)
        jobs = self._settler.add(claimed, since)
        for job in jobs:
            job.alone = self._rules.is_last_chance(job.record)
        self._capacity.claimed(len(jobs), singly=any(job.alone for job in jobs))
        for job in jobs:
            job.outcome = self._rules.given_up(job.record)
            if job.outcome is None:
                self._lanes.put(job)
            else:
                self._finish(job)
        for job in self._lanes.give_back(self._capacity.shortage):
            self._release(job)

    def _before(self, job: Job) -> Outcome | None:
        outcome = self._isolation.enter(job) if job.alone else None
        return outcome or self._refuse(job)

    def _refuse(self, job: Job) -> Outcome | None:
        if job.lost:  # as after a stall of the whole process: others have it, or may take it at any moment
            _log.warning("message %s: its lease was over before its handler began, and so it doesn't", job.record.id)
            return Released()
        return Released() if self._stopping or self._dispatcher.is_paused(job.record) else None

    def _handled(self, job: Job) -> None:
        self._lanes.done(job)
        self._finish(job)

    def _turn_back(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._finish(job)

    def _release(self, job: Job) -> None:
        job.outcome = Released()
        self._finish(job)

    def _finish(self, job: Job) -> None:
        self._capacity.handled()
        self._settler.put(job)

    def _settle(self) -> None:
        try:
            self._settler.run()
        finally:
            self._crew.close()
            _log.info("worker %s has ended", self.owner)
            self.ended()

    def _prune_now_and_then(self) -> None:
        while True:
            try:
                self._prune()
            except Exception:  # noqa: BLE001 -- the thread goes on, whatever a backend raises
                _log.exception("pruning failed")
            if self._stop_pruning.wait(self._rules.options.prune_interval_s):
                return
