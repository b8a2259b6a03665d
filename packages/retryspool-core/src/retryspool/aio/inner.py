"""The synchronous queue behind an asynchronous one."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

from retryspool.queue import queue
from retryspool.queue.handlers import Handlers
from retryspool.queue.worker import Worker

__all__ = ["Inner"]


class Inner(queue.Queue):
    """A queue whose workers are begun and ended by another."""

    def adopt(self, handlers: Handlers) -> None:
        """Take these handlers in place of its own."""
        self._handlers = handlers

    def begin(self, ended: Callable[[], object], *, until_idle: bool, loop: AbstractEventLoop) -> Worker:
        """Begin to handle messages, coroutines in this loop; `ended` is called when that has ended.

        :raises QueueError: there's no handler, it runs already, or it was closed
        """
        return self._start(ended, until_idle=until_idle, loop=loop)

    def end(self, worker: Worker, grace_s: float) -> None:
        """Stop what `begin()` has begun, as `stop()` does."""
        self._end(worker, grace_s)
