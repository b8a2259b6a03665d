"""The event loop in which those handlers of a worker run that are coroutines."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial

from retryspool.queue.message import Job
from retryspool.queue.outcome import Outcome, Released
from retryspool.queue.runner import Ready, Runner

__all__ = ["HandlerLoop"]

_log = logging.getLogger(__name__)


class HandlerLoop:
    """Runs handlers as tasks of an event loop: one of its own, in a thread that begins with the first of them.

    :param at_once: how many of them run at once; the others wait, ready to begin
    :param given: a loop that runs already, and is used instead
    :param refuse: what is called with each before it begins; returns an outcome if it isn't to begin
    :param is_stopping: tells whether the worker is: a handler that's cancelled then hasn't failed
    :param finish: what is called with each that is done, in the loop's thread as a rule; its job has an outcome
    :param lost: what is called if the loop is about to end though the worker isn't
    """

    def __init__(
        self,
        runner: Runner,
        at_once: int,
        given: asyncio.AbstractEventLoop | None,
        *,
        refuse: Callable[[Job], Outcome | None],
        is_stopping: Callable[[], bool],
        finish: Callable[[Ready], None],
        lost: Callable[[], None],
    ) -> None:
        self._runner = runner
        self._at_once = at_once
        self._given = given
        self._refuse = refuse
        self._is_stopping = is_stopping
        self._finish = finish
        self._lost = lost
        self.thread: threading.Thread | None = None
        """Its own, if there's one by now."""
        self._lock = threading.Lock()  # of the next three
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Ready] = deque()
        self._running: set[Ready] = set()
        self._cancel_at: float | None = None
        self._cancelled = False
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    # -- for other threads ---------------------------------------------------------------------------------------------

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this loop, and so holds it up."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def submit(self, ready: Ready) -> None:
        """Let a handler begin, in the order of calls."""
        with self._lock:
            is_new = self._loop is None
            if self._loop is None:
                self._loop = self._given or asyncio.new_event_loop()
            self._waiting.append(ready)
            wakes = len(self._waiting) == 1  # else the loop knows already that some wait
        if is_new:
            self._begin(self._loop)
        if wakes:
            self._call(self._begin_waiting)

    def cancel_after(self, seconds: float) -> None:
        """Cancel the handlers that still run then, and let none begin that come later."""
        at = time.monotonic() + seconds
        self._cancel_at = at if self._cancel_at is None else min(self._cancel_at, at)
        self._call(self._cancel_when_due)

    def close(self) -> None:
        """End once no handler runs."""
        self._closing = True
        self._call(self._end_if_idle)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._given is None:
            # A daemon: a handler that never ends must not keep a process from ending.
            self.thread = threading.Thread(target=self._run, args=(loop,), name="retryspool-loop", daemon=True)
            self.thread.start()
        else:
            self._call(lambda: loop.create_task(self._serve(), name="retryspool-keeper"))
        if self._cancel_at is not None:
            self._call(self._cancel_when_due)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(self._serve())
        except BaseException:  # noqa: BLE001 -- a handler has stopped it, or raised what ends it
            _log.exception("the event loop of the handlers has ended")
        finally:
            self._give_up()

    def _call(self, function: Callable[[], object]) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # it's closed
            self._give_up()

    def _give_up(self) -> None:
        """Release what a loop that doesn't run any more has left."""
        with self._lock:
            self._running.update(self._waiting)
            self._waiting.clear()
            left = list(self._running)
        for ready in left:
            self._finished(ready)

    def _finished(self, ready: Ready) -> None:
        with self._lock:
            if ready not in self._running:
                return  # given up, although it has ended by itself
            self._running.remove(ready)
        if ready.job.outcome is None:
            ready.job.outcome = Released()
        self._runner.done(ready)
        self._finish(ready)

    # -- in the loop ---------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._keeper = asyncio.current_task()
        try:
            await self._ended.wait()
        except asyncio.CancelledError:
            _log.warning("the event loop ends, and the worker with it")
            self._lost()
            raise

    def _stops(self) -> bool:
        return self._is_stopping() or (self._keeper is not None and self._keeper.cancelling() > 0)

    def _begin_waiting(self) -> None:
        """Let as many begin as may run at once; once the worker stops, all are refused, and so end at once."""
        loop = asyncio.get_running_loop()
        while first := self._take_waiting():
            for ready in first:
                ready.job.outcome = Released() if self._cancelled else self._refuse(ready.job)
                if ready.job.outcome is not None:
                    self._finished(ready)
                    continue
                name = f"retryspool-handler-{ready.job.record.id}"
                begin = partial(loop.create_task, self._runner.run_async(ready, self._stops), name=name)
                task = Context().run(begin)  # and not context=…, which not every task factory takes
                self._tasks.add(task)
                task.add_done_callback(partial(self._task_done, ready))
        self._end_if_idle()

    def _take_waiting(self) -> list[Ready]:
        with self._lock:
            room = math.inf if self._is_stopping() else self._at_once - len(self._running)
            first: list[Ready] = []
            while self._waiting and len(first) < room:
                first.append(self._waiting.popleft())
            self._running.update(first)
            return first

    def _task_done(self, ready: Ready, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._finished(ready)
        if self._waiting or self._closing:
            self._begin_waiting()

    def _cancel_when_due(self) -> None:
        left = max(0.0, (self._cancel_at or 0.0) - time.monotonic())
        asyncio.get_running_loop().call_later(left, self._cancel_all)
        self._begin_waiting()

    def _cancel_all(self) -> None:
        self._cancelled = True
        for task in self._tasks:
            task.cancel("the worker stops")

    def _end_if_idle(self) -> None:
        with self._lock:
            is_idle = not self._running and not self._waiting
        if self._closing and is_idle:
            self._ended.set()
