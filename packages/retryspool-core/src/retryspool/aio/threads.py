"""Threads in which coroutines let blocking calls run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TypeVar

from retryspool.errors import InvalidOptionError

__all__ = ["Threads"]

Result = TypeVar("Result")
Item = TypeVar("Item")

_BATCH = 100
_MOST = 1000


class Threads:
    """A bounded number of threads, started as they are needed. Each call has its caller's context, so its deadline too.

    :param count: calls that run at once; the others wait
    :param name: what the threads are called
    :raises InvalidOptionError: `count` isn't from 1 to 1,000
    """

    def __init__(self, count: int, name: str) -> None:
        if not 1 <= count <= _MOST:
            raise InvalidOptionError(f"threads is {count!r}; it must be an integer between 1 and {_MOST}")
        self._count = count
        self._name = name
        self._pid = os.getpid()
        self._executor: ThreadPoolExecutor | None = None

    @property
    def executor(self) -> Executor:
        """What runs them. In the child of a fork, where none of the threads is, it's another."""
        if self._executor is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._executor = ThreadPoolExecutor(self._count, self._name)
        return self._executor

    def close(self) -> None:
        """Let the threads end when their calls have. They begin anew if they're needed again."""
        if self._executor is not None and self._pid == os.getpid():
            self._executor.shutdown(wait=False)
        self._executor = None

    async def call(
        self,
        function: Callable[[], Result],
        *,
        undo: Callable[[Result], object] | None = None,
        interrupt: Callable[[], object] | None = None,
    ) -> Result:
        """Call a function in a thread and return its result.

        A cancellation before the call has begun is as if it had never been asked for. One that comes later waits for
        its end.

        :param undo: what is called, in a thread too, with a result that nobody gets for a cancellation
        :param interrupt: what is called at a cancellation to make the call end sooner
        """
        future = self.executor.submit(copy_context().run, function)
        ended = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            if future.cancel():
                raise
            if interrupt is not None:
                interrupt()
            await _wait_for(ended)
            if undo is not None and ended.exception() is None:
                result = ended.result()
                await _wait_for(asyncio.wrap_future(self.executor.submit(undo, result)))
            raise

    async def see_through(self, function: Callable[[], Result]) -> Result:
        """Call a function in a thread and return its result; whatever is cancelled, it's called, and waited for.

        :raises CancelledError: the caller was cancelled meanwhile; the function has ended, be it by an error
        """
        ended = asyncio.wrap_future(self.executor.submit(copy_context().run, function))
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            await _wait_for(ended)
            raise

    async def iterate(self, begin: Callable[[], Iterator[Item]]) -> AsyncIterator[Item]:
        """Yield what an iterator yields, which is made and asked in threads, for some at a time."""
        iterator = await self.call(begin)
        try:
            error: Exception | None = None
            while error is None:
                items, error = await self.call(lambda: _take(iterator))
                for item in items:
                    yield item
                if not items:
                    break
            if error is not None:
                raise error
        finally:
            close: Callable[[], object] | None = getattr(iterator, "close", None)
            if close is not None:
                await self.see_through(close)


def _take(iterator: Iterator[Item]) -> tuple[list[Item], Exception | None]:
    """Return the next items, none at the end; and the error that came after them, if one did."""
    items: list[Item] = []
    try:
        items.extend(islice(iterator, _BATCH))
    except Exception as error:  # noqa: BLE001 -- whatever it is, it's raised once the items before it are out
        return items, error
    return items, None


async def _wait_for(ended: asyncio.Future[Result]) -> None:
    """Wait until it's done, however often the waiting is cancelled."""
    while not ended.done():
        try:
            await asyncio.wait({ended})
        except asyncio.CancelledError:
            continue
    ended.exception()  # so that nobody complains that it wasn't looked at
