"""The queue, as coroutines."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from retryspool.aio.inner import Inner
from retryspool.aio.operated import Operated
from retryspool.aio.threads import Threads
from retryspool.aio.writer import MessageWriter, Payload
from retryspool.errors import QueueError
from retryspool.meta import ListOptions, ListResult, SortBy
from retryspool.middleware import Middleware
from retryspool.model import Finding, MessageMetadata, State
from retryspool.queue.counters import Counters
from retryspool.queue.handlers import AnyHandler, AsyncHandle, AsyncHandler, Handle, Handler, Handlers
from retryspool.queue.observers import Observer
from retryspool.queue.observing import Observers
from retryspool.queue.options import QueueOptions, QueueSettings
from retryspool.queue.policy import RetryPolicy
from retryspool.queue.producer import EnqueueResult, IfExists, NotBefore, Outgoing
from retryspool.queue.reading import AsyncPayload
from retryspool.queue.routes import RouteOptions, RouteStatus
from retryspool.queue.worker import Worker
from retryspool.spool import DEFAULT_GRACE, Discrepancy, Spool

__all__ = ["Queue"]

_LAST_STEPS_S = 5.0
"""How long threads may take that have nothing to do any more but end."""
_WORKING = 4
"""Threads for what begins and ends workers: it isn't to wait behind what handlers wait for."""


class Queue(Operated):
    """`retryspool.Queue` for asyncio: its methods, arguments and results are the same, and say there what they promise.

    It's opened by `async with`, which closes it at the end and, if it has handlers by then, starts working; or by
    `await`. Handlers that are coroutines run in the loop in which it was started, the others in threads. It may be used
    from several loops.

    :param options: its settings; the defaults if None
    :param policies: retry policies by name, beside `exponential`
    :param routes: what applies to which destinations, by route or by pattern
    :param threads: calls to the stores that run at once, 1 to 1,000: with files, so many syncs overlap
    :raises InvalidOptionError: the options name a policy that there isn't
    """

    def __init__(
        self,
        spool: Spool,
        options: QueueOptions | None = None,
        *,
        policies: Mapping[str, RetryPolicy] | None = None,
        routes: Mapping[str, RouteOptions] | None = None,
        threads: int = 32,
    ) -> None:
        self._set_up(
            lambda: Inner(spool, options, policies=policies, routes=routes), options or QueueOptions(), threads
        )
        self._open()

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        meta: str | None = None,
        data: str | None = None,
        middleware: Sequence[Middleware | str] = (),
        policies: Mapping[str, RetryPolicy] | None = None,
        routes: Mapping[str, RouteOptions] | None = None,
        threads: int = 32,
        **settings: Unpack[QueueSettings],
    ) -> Self:
        """Return a queue on a folder, or on two backends by URL, that is opened when it's entered, or awaited.

        The arguments are those of `retryspool.Queue.open`, and `threads`.
        """
        queue = cls.__new__(cls)
        queue._set_up(  # noqa: SLF001 -- it's this class's own
            lambda: Inner.open(
                path, meta=meta, data=data, middleware=middleware, policies=policies, routes=routes, **settings
            ),
            QueueOptions(**settings),
            threads,
        )
        return queue

    def _set_up(self, make: Callable[[], Inner], options: QueueOptions, threads: int) -> None:
        self.options = options
        self._make = make
        self._inner: Inner | None = None
        self._handlers = Handlers()
        self._observers = Observers()
        self._threads = Threads(threads, "retryspool-aio")
        self._working = Threads(_WORKING, "retryspool-aio-worker")
        self._opening = asyncio.Lock()

    def _open(self) -> None:
        if self._inner is None:
            inner = self._make()
            inner.adopt(self._handlers)
            for observer in self._observers.all:
                inner.add_observer(observer)
            self._inner = inner

    async def _opened(self) -> Self:
        async with self._opening:
            if self._inner is None:
                await self._working.call(self._open, undo=self._unopen)
        return self

    def _unopen(self, _: object) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.close()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()

    @property
    def sync(self) -> Inner:
        """The synchronous queue behind it, for what isn't asynchronous.

        :raises QueueError: it isn't open yet
        """
        if self._inner is None:
            raise QueueError("the queue isn't open yet: enter it with 'async with', or 'await' it")
        return self._inner

    @property
    def spool(self) -> Spool:
        """The spool, which is synchronous."""
        return self.sync.spool

    @property
    def counters(self) -> Counters:
        """What the queue has done since it was opened."""
        return self.sync.counters

    # -- handlers ------------------------------------------------------------------------------------------------------

    def handler(self, handler: AnyHandler) -> AnyHandler:
        self._handlers.add(handler)
        return handler

    def bounce_handler(self, handler: AnyHandler) -> AnyHandler:
        self._handlers.add_bounce(handler)
        return handler

    def add_handler(self, handler: Handle | Handler | AsyncHandle | AsyncHandler) -> None:
        self._handlers.add(handler)

    def add_bounce_handler(self, handler: Handle | Handler | AsyncHandle | AsyncHandler) -> None:
        self._handlers.add_bounce(handler)

    def add_observer(self, observer: Observer) -> None:
        self._observers.add(observer)
        if self._inner is not None:
            self._inner.add_observer(observer)

    # -- in ------------------------------------------------------------------------------------------------------------

    async def enqueue(
        self,
        payload: Payload,
        *,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
        route: str = "",
        priority: int | None = None,
        not_before: NotBefore = None,
        max_attempts: int | None = None,
        retry_policy: str | None = None,
        if_exists: IfExists = "raise",
        transaction: object | None = None,
    ) -> MessageMetadata:
        """Store a message: when this returns, it's safe.

        If it's cancelled, the message is stored when this ends, or never.

        :param payload: bytes, a binary file read to its end, an iterable of bytes, which threads read; or an
            asynchronous iterable of bytes, such as what `open_payload` returns
        :param transaction: a connection that isn't asynchronous, and that other threads may use: the queue's do
            meanwhile. Where a driver's connections stay in their thread, begin, enqueue and commit in one of your own,
            with `asyncio.to_thread` and `queue.sync`
        :raises NotSupportedError: the connection is asynchronous, or the metadata backend can't join that transaction
        """
        begin = partial(
            self.begin_enqueue,
            headers=headers,
            message_id=message_id,
            route=route,
            priority=priority,
            not_before=not_before,
            max_attempts=max_attempts,
            retry_policy=retry_policy,
            if_exists=if_exists,
            transaction=transaction,
        )
        if isinstance(payload, AsyncIterable):
            async with begin() as message:
                async for chunk in payload:
                    await message.write(chunk)
            return message.record
        return await self._threads.call(partial(self.sync.enqueue, payload, **begin.keywords))

    def begin_enqueue(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
        route: str = "",
        priority: int | None = None,
        not_before: NotBefore = None,
        max_attempts: int | None = None,
        retry_policy: str | None = None,
        if_exists: IfExists = "raise",
        transaction: object | None = None,
    ) -> MessageWriter:
        """Begin to store a message whose payload is written piece by piece, in an `async with` block.

        :param transaction: as in `enqueue`; the record is written into it when the block ends
        """
        begin = partial(
            self.sync.begin_enqueue,
            headers=headers,
            message_id=message_id,
            route=route,
            priority=priority,
            not_before=not_before,
            max_attempts=max_attempts,
            retry_policy=retry_policy,
            if_exists=if_exists,
            transaction=transaction,
        )
        return MessageWriter(self._threads, begin)

    async def enqueue_many(
        self, messages: Iterable[Outgoing], *, if_exists: IfExists = "raise", transaction: object | None = None
    ) -> builtins.list[EnqueueResult]:
        enqueue_many = partial(self.sync.enqueue_many, messages, if_exists=if_exists, transaction=transaction)
        return await self._threads.call(enqueue_many)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def get(self, message_id: str) -> MessageMetadata:
        return await self._threads.call(partial(self.sync.get, message_id))

    async def open_payload(self, message_id: str) -> AsyncPayload:
        """Return a reader of a message's payload, to be used as `async with await queue.open_payload(…) as payload`."""
        file = await self._threads.call(partial(self.sync.open_payload, message_id), undo=lambda file: file.close())
        return AsyncPayload(file, self._threads.executor)

    async def list(
        self,
        state: State,
        options: ListOptions | None = None,
        *,
        limit: int = 100,
        offset: int = 0,
        sort_by: SortBy = SortBy.CREATED,
        descending: bool = False,
        since: datetime | None = None,
    ) -> ListResult:
        if options is None:
            options = ListOptions(limit=limit, offset=offset, sort_by=sort_by, descending=descending, since=since)
        return await self._threads.call(partial(self.sync.list, state, options))

    def iter(self, state: State) -> AsyncIterator[MessageMetadata]:
        return self._threads.iterate(lambda: self.sync.iter(state))

    async def count(self, state: State) -> int:
        return await self._threads.call(partial(self.sync.count, state))

    async def counts(self) -> dict[State, int]:
        return await self._threads.call(self.sync.counts)

    async def oldest_due(self, state: State) -> datetime | None:
        return await self._threads.call(partial(self.sync.oldest_due, state))

    # -- care ----------------------------------------------------------------------------------------------------------

    def reconcile(self, *, grace: timedelta = DEFAULT_GRACE, dry_run: bool = False) -> AsyncIterator[Discrepancy]:
        return self._threads.iterate(lambda: self.sync.reconcile(grace=grace, dry_run=dry_run))

    def check(self) -> AsyncIterator[Finding]:
        return self._threads.iterate(self.sync.check)

    # -- work ----------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether messages are being handled, in this process."""
        return self._inner is not None and self._inner.running

    @property
    def stalled_s(self) -> float:
        """For how long this queue's worker has tried in vain to claim, in seconds; 0 if it can, or needn't."""
        return 0.0 if self._inner is None else self._inner.stalled_s

    def routes(self) -> builtins.list[RouteStatus]:
        return self.sync.routes()

    async def start(self) -> None:
        """Begin to handle messages in the background; handlers that are coroutines run in the caller's loop."""
        begin = partial(self.sync.begin, lambda: None, until_idle=False, loop=asyncio.get_running_loop())
        await self._working.call(begin, undo=lambda worker: self.sync.end(worker, self.options.grace_s))

    async def stop(self, grace_s: float | None = None) -> None:
        await self._working.see_through(partial(self.sync.stop, grace_s))

    async def run(self, *, until_idle: bool = False) -> None:
        """Handle messages until cancelled, or until `stop()` is called.

        What a cancellation does is what `stop()` does; a second one doesn't wait for handlers any more. Signals are the
        caller's business: `asyncio.run` makes a cancellation of SIGINT.

        :param until_idle: end as soon as nothing is due
        """
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(ended.set)

        begun: list[Worker] = []

        def begin() -> None:
            begun.append(self.sync.begin(tell, until_idle=until_idle, loop=loop))

        try:
            await self._working.see_through(begin)
            await ended.wait()
        except asyncio.CancelledError:
            for worker in begun:  # some handlers may have begun before this coroutine heard of it
                await self._wind_down(worker, ended)
            raise
        await self._end(begun[0], _LAST_STEPS_S)

    async def _wind_down(self, worker: Worker, ended: asyncio.Event) -> None:
        worker.begin_stop(self.options.grace_s)
        try:
            async with asyncio.timeout(self.options.grace_s):
                await ended.wait()
        except (TimeoutError, asyncio.CancelledError):
            await self._end(worker, 0)
        else:
            await self._end(worker, _LAST_STEPS_S)

    async def _end(self, worker: Worker, grace_s: float) -> None:
        await self._working.see_through(partial(self.sync.end, worker, grace_s))

    async def close(self) -> None:
        """Stop, and close the spool. May be called again; a cancellation waits for its end."""
        if self._inner is None:
            return
        try:
            await self._working.see_through(self._inner.close)
        finally:
            self._threads.close()
            self._working.close()

    async def __aenter__(self) -> Self:
        await self._opened()
        if self._handlers.sources and not self.running:
            try:
                await self.start()
            except BaseException:
                await self.close()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
