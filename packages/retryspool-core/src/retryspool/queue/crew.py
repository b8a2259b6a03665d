"""The crew: the threads that run a worker's handlers, and the event loop for those that are coroutines.

A thread takes a message, chooses its handler and opens its payload. Then it runs the handler, or leaves it to the loop
and takes the next message, so that any number of coroutines wait at once for a few threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

from retryspool.queue.handlers import Handlers
from retryspool.queue.lanes import Lanes
from retryspool.queue.loop import HandlerLoop
from retryspool.queue.message import Job
from retryspool.queue.outcome import Outcome
from retryspool.queue.runner import Ready, Runner
from retryspool.queue.slots import Slots

__all__ = ["Crew"]

_PREPARING = 32
"""So many threads are enough where all handlers are coroutines."""
_AHEAD = 2
"""And for so many that run one more is made ready, so that it begins the moment another ends."""


class Crew:
    """Runs handlers, up to `concurrency` at once.

    :param loop: where coroutines run; in a thread of the crew's own if None
    :param before: what is called with each message before its handler begins; returns an outcome if it isn't to begin
    :param refuse: the same, for one that has waited since
    :param finish: what is called with each message that has an outcome
    :param is_here: tells whether this is the process in which the crew began
    :param is_stopping: tells whether the worker stops
    :param lost: what is called if the loop is about to end though the worker isn't
    """

    def __init__(
        self,
        lanes: Lanes,
        runner: Runner,
        handlers: Handlers,
        concurrency: int,
        *,
        loop: asyncio.AbstractEventLoop | None,
        before: Callable[[Job], Outcome | None],
        refuse: Callable[[Job], Outcome | None],
        finish: Callable[[Job], None],
        is_here: Callable[[], bool],
        is_stopping: Callable[[], bool],
        lost: Callable[[], None],
    ) -> None:
        self._lanes = lanes
        self._runner = runner
        self._handlers = handlers
        self._concurrency = concurrency
        self._before = before
        self._finish = finish
        self._is_here = is_here
        self._free = Slots(concurrency)
        self._threads: list[threading.Thread] = []
        self.loop = HandlerLoop(
            runner, concurrency, loop, refuse=refuse, is_stopping=is_stopping, finish=self._ended, lost=lost
        )

    @property
    def threads(self) -> list[threading.Thread]:
        """All of its threads, the loop's own too."""
        return [*self._threads, *([] if self.loop.thread is None else [self.loop.thread])]

    @property
    def has_coroutines(self) -> bool:
        """Whether any handler is a coroutine: those that run end soon after they're cancelled."""
        return self._handlers.have_coroutines

    def grow(self) -> None:
        """Start the threads that the handlers need which there are by now."""
        if self._handlers.need_threads:
            wanted, ahead = self._concurrency, 0
        else:
            wanted, ahead = min(self._concurrency, _PREPARING), self._concurrency // _AHEAD
        self._free.resize(self._concurrency + ahead)
        while len(self._threads) < wanted:
            # Daemons: a handler that never returns must not keep a process from ending.
            name = f"retryspool-handler-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Let go of all that isn't needed once the handlers that still run have ended."""
        self.loop.close()
        self._runner.close()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            ready = None
            job.outcome = self._before(job)
            if job.outcome is None:
                ready = self._runner.run(job)
                if not self._is_here():
                    return  # the handler has forked, and this is the child: the message is the parent's
            if ready is None:
                self._done(job)
            else:
                self.loop.submit(ready)
        self._free.release()  # for the next to see that it's over

    def _next(self) -> Job | None:
        self._free.acquire()
        return self._lanes.take()

    def _ended(self, ready: Ready) -> None:
        if not self._is_here():
            # The handler has forked, and this is the child. It can't run the loop on: its file descriptors are the
            # parent's too, which would miss what the child reads from them. So it ends, as with a handler in a thread.
            os._exit(0)
        self._done(ready.job)

    def _done(self, job: Job) -> None:
        self._free.release()
        self._finish(job)
