"""The queue: what users hold in their hands."""

from __future__ import annotations

import builtins
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from retryspool.data import Payload
from retryspool.errors import QueueError
from retryspool.middleware import Middleware
from retryspool.model import MessageMetadata
from retryspool.queue.counters import Counters
from retryspool.queue.handlers import AnyHandler, AsyncHandle, AsyncHandler, Handle, Handler, Handlers
from retryspool.queue.inspected import Inspected
from retryspool.queue.observers import Observer
from retryspool.queue.observing import Observers
from retryspool.queue.operated import Operated
from retryspool.queue.operations import Operations
from retryspool.queue.options import QueueOptions, QueueSettings
from retryspool.queue.outcome import Rules
from retryspool.queue.policy import Policies, RetryPolicy
from retryspool.queue.producer import EnqueueResult, IfExists, MessageWriter, NotBefore, Outgoing, Producer
from retryspool.queue.routes import RouteOptions, RouteStatus, RouteTable
from retryspool.queue.signals import next_event, signals_into
from retryspool.spool import Spool

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from retryspool.queue.worker import Worker

__all__ = ["Queue"]

_log = logging.getLogger(__name__)

_LAST_STEPS_S = 5.0
"""How long threads may take that have nothing to do any more but end."""


class Queue(Inspected, Operated):
    """A spool whose messages are handled: enqueue, work, retry, bounce. Safe to share between threads.

    It owns the spool: `close()` closes it. As a context manager it starts working if it has handlers by then, and
    closes at the end.

    :param options: its settings; the defaults if None
    :param policies: retry policies by name, beside `exponential`
    :param routes: what applies to which destinations, by route or by pattern such as `*.example.org`: an exact name
        comes first, then the patterns in order, then the defaults of `RouteOptions`
    :raises InvalidOptionError: the options name a policy that there isn't
    """

    def __init__(
        self,
        spool: Spool,
        options: QueueOptions | None = None,
        *,
        policies: Mapping[str, RetryPolicy] | None = None,
        routes: Mapping[str, RouteOptions] | None = None,
    ) -> None:
        self.spool = spool
        self.options = options or QueueOptions()
        self.counters = Counters()
        self._policies = Policies(policies or {}, self.options.retry_policy)
        self._routes = RouteTable(routes or {})
        self._handlers = Handlers()
        self._observers = Observers()
        self._producer = Producer(spool, self.options, self._policies, self.counters, self._observers)
        self._operations = Operations(spool, self._policies)
        self._lock = threading.Lock()  # of the three below
        self._worker: Worker | None = None
        self._latest: Worker | None = None
        self._stopped: list[Worker] = []
        self._closed = False

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
        **settings: Unpack[QueueSettings],
    ) -> Self:
        """Open a queue: on a folder, or on two backends by URL.

        :param path: a folder, made if it isn't there
        :param meta: the metadata backend's URL, such as `redis://localhost/0`
        :param data: the data backend's URL, such as `s3://bucket/outbox`
        :param middleware: what payloads go through, each an object, a name such as `zstd`, or a URL such as
            `zstd:?level=3`; the first gets the user's bytes
        :param policies: retry policies by name, beside `exponential`
        :param routes: what applies to which destinations, by route or by pattern
        :param settings: the fields of `QueueOptions`
        :raises InvalidOptionError: a setting is outside its range, or neither a folder nor two URLs were given
        :raises PluginError: there's no such backend; the message says what to install
        """
        options = QueueOptions(**settings)
        Policies(policies or {}, options.retry_policy)  # complains before anything is opened
        RouteTable(routes or {})
        spool = Spool.open(path, meta=meta, data=data, middleware=middleware)
        return cls(spool, options, policies=policies, routes=routes)

    # -- handlers ------------------------------------------------------------------------------------------------------

    def handler(self, handler: AnyHandler) -> AnyHandler:
        """Add a handler for messages, as a decorator."""
        self._handlers.add(handler)
        return handler

    def bounce_handler(self, handler: AnyHandler) -> AnyHandler:
        """Add a handler for messages that have bounced, as a decorator."""
        self._handlers.add_bounce(handler)
        return handler

    def add_handler(self, handler: Handle | Handler | AsyncHandle | AsyncHandler) -> None:
        """Add a handler for messages: a callable `(message, payload) -> None` or a `Handler`, each also as `async def`.

        A message goes to the first that takes it; one whose `can_handle` isn't there takes all. It is given a `Message`
        and the payload, a readable binary file that is closed when it returns. If it returns, the message is done. Its
        exceptions say what becomes of it: `PermanentError` bounces, `RetryableError` defers by a delay of its own, any
        other is retried by policy. A coroutine is given an `AsyncPayload`, and runs in an event loop with the others.

        :raises InvalidInputError: it isn't a handler
        """
        self._handlers.add(handler)

    def add_bounce_handler(self, handler: Handle | Handler | AsyncHandle | AsyncHandler) -> None:
        """Add a handler for messages that have bounced; `message.last_error` says why they have.

        A failure is retried by policy, up to the message's `max_attempts`; then it's kept.

        :raises InvalidInputError: it isn't a handler
        """
        self._handlers.add_bounce(handler)

    def add_observer(self, observer: Observer) -> None:
        """Let an observer be told of all that comes and goes, from now on; one that's there stays.

        :raises InvalidInputError: it isn't an `Observer`
        """
        self._observers.add(observer)
        self._observers.added(observer, self)

    # -- in ------------------------------------------------------------------------------------------------------------

    def enqueue(
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

        :param payload: bytes, a binary file read to its end, or an iterable of bytes
        :param headers: kept with the message; `x-retry-policy` and `priority` set those, if the arguments don't; names
            that begin with `x-retryspool-` are left out, so that headers can be copied from one message to another
        :param message_id: a name for the message, and an idempotency key for as long as the message is there
        :param route: the destination
        :param priority: 0 to 100; 1 goes before 5
        :param not_before: when it's due: a time with its zone, or a delay, a number being in seconds
        :param max_attempts: so many failures, and it bounces; 1 to 1,000
        :param retry_policy: the policy's name
        :param if_exists: with `"skip"`, a message of this id that is there already is returned instead of an error
        :param transaction: a connection on which the caller has a transaction open, where the metadata backend can
            join it: the message is there, and safe, if and when the caller commits
        :returns: the record as stored
        :raises MessageExistsError: there's a message of this id; it wasn't touched, and is safe
        :raises NotSupportedError: the metadata backend can't join that transaction; nothing is stored
        :raises InvalidInputError: an argument is outside its range, or there's no such policy; nothing is stored
        """
        message = Outgoing(
            payload=payload,
            headers=headers or {},
            message_id=message_id,
            route=route,
            priority=priority,
            not_before=not_before,
            max_attempts=max_attempts,
            retry_policy=retry_policy,
        )
        return self._producer.enqueue(message, if_exists, transaction)

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
        """Begin to store a message whose payload is written piece by piece, in a `with` block; as `enqueue` otherwise.

        :param transaction: as in `enqueue`; the record is written into it when the block ends
        :raises MessageExistsError: there's a message of this id; one that comes meanwhile shows at the end of the block
        """
        message = Outgoing(
            payload=b"",
            headers=headers or {},
            message_id=message_id,
            route=route,
            priority=priority,
            not_before=not_before,
            max_attempts=max_attempts,
            retry_policy=retry_policy,
        )
        return self._producer.begin(message, if_exists, transaction)

    def enqueue_many(
        self, messages: Iterable[Outgoing], *, if_exists: IfExists = "raise", transaction: object | None = None
    ) -> builtins.list[EnqueueResult]:
        """Store several messages, faster than one by one.

        :param transaction: as in `enqueue`
        :returns: one result each, in order: the record, or the `StorageError`, which is returned, not raised
        :raises InvalidInputError: one of them has an argument outside its range; none is stored
        """
        return self._producer.enqueue_many(messages, if_exists, transaction)

    # -- work ----------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether messages are being handled, in this process."""
        worker = self._worker
        return worker is not None and worker.is_running

    def start(self) -> None:
        """Begin to handle messages in the background. A queue that was stopped may be started again.

        In the child of a fork nothing runs; it may be started there as well.

        :raises QueueError: there's no handler, it runs already, or it was closed
        """
        self._start(lambda: None, until_idle=False)

    def _start(self, ended: Callable[[], object], *, until_idle: bool, loop: AbstractEventLoop | None = None) -> Worker:
        from retryspool.queue.worker import Worker  # noqa: PLC0415 -- it needs asyncio: slow, and many only enqueue

        with self._lock:
            if self._closed:
                raise QueueError("the queue is closed")
            if self._worker is not None and not self._worker.has_ended:
                raise QueueError("the queue is running already")
            if not self._handlers.sources:
                raise QueueError("the queue has no handler; add one with @queue.handler")
            worker = self._worker = self._latest = Worker(
                self.spool,
                Rules(self.options, self._policies),
                self._handlers,
                self.counters,
                self._routes,
                observers=self._observers,
                prune=self.prune,
                ended=ended,
                until_idle=until_idle,
                loop=loop,
            )
            worker.start()
            return worker

    @property
    def stalled_s(self) -> float:
        """For how long this queue's worker has tried in vain to claim, in seconds; 0 if it can, or needn't."""
        worker = self._worker
        return 0.0 if worker is None or not worker.is_running else worker.stalled_s

    def routes(self) -> builtins.list[RouteStatus]:
        """Return what this queue's worker, the running one or else the last, knows of each destination, by name.

        Other workers, of other processes or machines, have their own view of the same destinations.
        """
        worker = self._latest
        return [] if worker is None or not worker.is_here else worker.routes()

    def stop(self, grace_s: float | None = None) -> None:
        """Stop handling messages: claim no more, give back what hasn't begun, and let what runs come to its end.

        Messages given back aren't counted as delivered. A handler that still runs when the grace time is over keeps its
        lease, renewed, so that nobody else gets its message; what becomes of it is stored when it ends, unless the
        queue is closed before. One that's a coroutine is cancelled then, and given five seconds to end: its message is
        given back, if it ends by that. Does nothing if it isn't running.

        :param grace_s: how long to wait for handlers, in seconds; the option's if None
        """
        worker = self._worker
        if worker is not None:
            self._end(worker, self.options.grace_s if grace_s is None else grace_s)

    def _end(self, worker: Worker, grace_s: float) -> None:
        with self._lock:
            if self._worker is not worker:
                return  # another thread has stopped it, and may have started the next
            self._worker = None
            if not worker.is_here:
                return
            self._stopped = [*(each for each in self._stopped if not each.has_ended), worker]
        worker.begin_stop(grace_s)
        if not worker.join():
            _log.warning("worker %s: handlers still run after the grace time", worker.owner)
        worker.ended()

    def run(self, *, until_idle: bool = False) -> None:
        """Handle messages until SIGTERM or SIGINT comes, or another thread calls `stop()`.

        What a signal does is what `stop()` does; a second one doesn't wait for handlers any more. Signals are only
        heeded where this is called from the main thread.

        :param until_idle: end as soon as nothing is due
        :raises QueueError: there's no handler, it runs already, or it was closed
        """
        events: SimpleQueue[int | None] = SimpleQueue()
        with signals_into(events):
            worker = self._start(lambda: events.put(None), until_idle=until_idle)
            event = next_event(events)
            if event is not None:
                worker.begin_stop(self.options.grace_s)
                with suppress(Empty):
                    event = next_event(events, self.options.grace_s)
            self._end(worker, _LAST_STEPS_S if event is None else 0)

    def close(self) -> None:
        """Stop, and close the spool. May be called again.

        What a handler that still runs after the grace time achieves isn't stored any more: its message is delivered
        again once the lease has expired.
        """
        self.stop()
        with self._lock:
            was_closed, self._closed = self._closed, True
            workers, self._stopped = self._stopped, []
        for worker in workers:
            if worker.is_here:
                worker.join()  # at once, unless another thread is stopping it
                worker.abandon()
        try:
            if not was_closed:
                self._observers.closing()
        finally:
            self.spool.close()

    def __enter__(self) -> Self:
        if self._handlers.sources and not self.running:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
