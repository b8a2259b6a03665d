"""Messages whose payload coroutines write piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from retryspool import data
from retryspool.aio.threads import Threads
from retryspool.model import MessageMetadata
from retryspool.queue import producer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["MessageWriter", "Payload"]

Payload = data.Payload | AsyncIterable[bytes]
"""What a payload may be handed in as: what `retryspool.data.Payload` names, or an asynchronous iterable of chunks."""


class MessageWriter:
    """A message whose payload is being written, in an `async with` block: `retryspool.MessageWriter` for asyncio.

    Nothing of it is visible before the block ends, and nothing is left of it if it ends by an exception, a cancellation
    too. One that comes while the message is being stored, at the end of the block, is raised when that has succeeded or
    failed.
    """

    def __init__(self, threads: Threads, begin: Callable[[], producer.MessageWriter]) -> None:
        self._threads = threads
        self._begin = begin
        self._writer: producer.MessageWriter | None = None

    @property
    def _begun(self) -> producer.MessageWriter:
        if self._writer is None:
            raise ValueError("the message hasn't begun: enter it with 'async with'")
        return self._writer

    @property
    def message_id(self) -> str:
        """The message's id."""
        return self._begun.message_id

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, which may be changed until the block ends."""
        return self._begun.headers

    @property
    def stored(self) -> bool:
        """Whether the message is stored: by this block, or before it where that is to be skipped."""
        return self._begun.stored

    @property
    def record(self) -> MessageMetadata:
        """The record, as it was stored; before that, as it will be, so far."""
        return self._begun.record

    async def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes to the payload; returns how many."""
        return await self._threads.call(partial(self._begun.write, data))

    async def commit(self) -> MessageMetadata:
        """Store the message: when this returns, it's safe. The `async with` block does it by itself."""
        return await self._threads.call(self._begun.commit)

    async def abort(self) -> None:
        """Throw the message away. Does nothing after `commit()`."""
        await self._threads.see_through(self._begun.abort)

    async def __aenter__(self) -> Self:
        self._writer = await self._threads.call(self._begin, undo=lambda writer: writer.abort())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            await self.abort()
            return
        try:
            await self.commit()
        except asyncio.CancelledError:
            await self.abort()  # unless it's committed
            raise
