"""Payloads as coroutines read them."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, TypeVar

from retryspool.data import CHUNK_BYTES
from retryspool.errors import CorruptDataError
from retryspool.spool import damage_of

if TYPE_CHECKING:
    import asyncio

__all__ = ["AsyncPayload"]

Result = TypeVar("Result")


class AsyncPayload:
    """A payload that is read without blocking the event loop: threads do that.

    `async for` yields it in chunks. One coroutine at a time reads, the others wait for it. A read that is cancelled
    loses nothing: the next one begins where it began.

    :param file: what is read; it's this object's from now on
    :param threads: where it's read; None for a file in memory, which is read at once
    """

    def __init__(self, file: BinaryIO, threads: Executor | None) -> None:
        import asyncio  # noqa: PLC0415 -- slow to import, and only coroutines need it

        self._file = file
        self._threads = threads
        self._turn = asyncio.Lock()
        self._ahead = b""
        self._reading: Future[bytes] | None = None
        self._closing: Future[None] | None = None

    @property
    def damage(self) -> CorruptDataError | None:
        """The error with which reading has ended since the payload isn't what was handed in, None if it hasn't."""
        return damage_of(self._file)

    async def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes: up to `size`, all that are left if that's negative; none at the end.

        :raises CorruptDataError: the payload isn't what was handed in
        """
        async with self._turn:
            if size >= 0:
                if not self._ahead:
                    self._ahead = await self._next(size)
                chunk, self._ahead = self._ahead[:size], self._ahead[size:]
                return chunk
            if self._reading is not None:  # one that was cancelled may have asked for less
                self._ahead += await self._next(0)
            self._ahead += await self._next(-1)
            chunk, self._ahead = self._ahead, b""
            return chunk

    async def _next(self, size: int) -> bytes:
        """Return what a read that was cancelled has brought; if none was, read."""
        import asyncio  # noqa: PLC0415 -- see above

        if self._closing is not None:
            raise ValueError("read from a payload that is closed")
        if self._reading is None:
            if self._threads is None:
                return self._file.read(size)
            self._reading = self._threads.submit(copy_context().run, self._file.read, size)
        try:
            chunk = await _result_of(self._reading)
        except asyncio.CancelledError:
            raise  # the thread reads on, for the next one
        except BaseException:
            self._reading = None
            raise
        self._reading = None
        return chunk

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self.read(CHUNK_BYTES)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    def close_soon(self) -> Future[None] | None:
        """Close it without waiting, as soon as nothing reads it any more; returns None if that's now."""
        if self._threads is None:
            self._file.close()
        elif self._closing is None:
            closing = self._closing = Future[None]()
            if self._reading is None:
                self._begin_to_close(self._threads, closing)
            else:
                threads = self._threads
                self._reading.add_done_callback(lambda _: self._begin_to_close(threads, closing))
        return self._closing

    def _begin_to_close(self, threads: Executor, closing: Future[None]) -> None:
        try:
            threads.submit(self._close, closing)
        except RuntimeError:  # the threads have ended meanwhile
            self._close(closing)

    def _close(self, closing: Future[None]) -> None:
        try:
            self._file.close()
        except Exception as error:  # noqa: BLE001 -- whatever it is, it belongs to who waits
            closing.set_exception(error)
        else:
            closing.set_result(None)

    async def aclose(self) -> None:
        """Close it. May be called again."""
        closing = self.close_soon()
        if closing is not None:
            await _result_of(closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


async def _result_of(future: Future[Result]) -> Result:
    """Return what a thread brings; it goes on if the waiting is cancelled."""
    import asyncio  # noqa: PLC0415 -- see above

    done = asyncio.wrap_future(future)
    done.add_done_callback(_look_at)
    return await asyncio.shield(done)


def _look_at(done: asyncio.Future[Result]) -> None:
    """Look at an error that nobody waits for any more, so that none complains of that."""
    if not done.cancelled():
        done.exception()
