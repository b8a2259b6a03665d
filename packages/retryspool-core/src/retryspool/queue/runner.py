"""Running one message's handler, and making an outcome of whatever happens."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, cast

from retryspool.errors import (
    CorruptDataError,
    DataNotFoundError,
    PermanentError,
    RetryableError,
    RouteError,
    StorageError,
)
from retryspool.model import replace
from retryspool.queue.context import current
from retryspool.queue.handlers import AsyncHandle, Handlers
from retryspool.queue.message import Job, Message, own_headers, user_headers
from retryspool.queue.observing import Observers
from retryspool.queue.outcome import Failed, GivenUp, Outcome, Released, SetAside, Succeeded, error_text
from retryspool.queue.reading import AsyncPayload
from retryspool.records import validate_metadata
from retryspool.spool import Spool, damage_of

__all__ = ["Ready", "Runner"]

_log = logging.getLogger(__name__)

_SMALL_BYTES = 64 * 1024
"""Payloads of up to so many bytes are read into memory before their coroutine begins."""
_READERS = 16
"""Threads that read the larger ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Ready:
    """A message whose handler is a coroutine, and may begin."""

    job: Job
    message: Message
    payload: AsyncPayload
    handle: AsyncHandle


class Runner:
    """Runs handlers: never raises, always leaves an outcome."""

    def __init__(self, spool: Spool, handlers: Handlers, observers: Observers) -> None:
        self._spool = spool
        self._handlers = handlers
        self._observers = observers
        self._readers = ThreadPoolExecutor(_READERS, "retryspool-reader")

    def close(self) -> None:
        """Let its threads end; what is being read is read to the end."""
        self._readers.shutdown(wait=False)

    def run(self, job: Job) -> Ready | None:
        """Run the handler for a job, in a context of its own; or return what `run_async` is to run instead."""
        started = time.monotonic()
        message = Message(job)
        try:
            result = Context().run(self._run, message, job)
        except BaseException as error:  # noqa: BLE001 -- whatever a handler raises, SystemExit too, is its failure
            result = self._failed(message, error)
        if isinstance(result, Ready):
            return result
        job.outcome = result
        job.seconds = time.monotonic() - started
        return None

    def _run(self, message: Message, job: Job) -> Outcome | Ready:
        current.set(message.id)
        try:
            message.headers = user_headers(self._spool.opened(message.record).headers)
        except StorageError as error:
            return _unreadable(message, "headers", error)
        entry = self._handlers.choose(message)
        if entry is None:
            _log.debug("message %s: no handler takes it", message.id)
            return SetAside()
        try:
            payload = self._spool.open_payload(message.record)
            if entry.is_async:
                return Ready(job, message, self._awaitable(message, payload), cast("AsyncHandle", entry.handle))
        except (StorageError, OSError) as error:
            return _unreadable(message, "payload", error)
        try:
            with self._observers.attempt(message):
                _refuse_awaitable(entry.handle, entry.handle(message, payload))
        except BaseException:
            if damage_of(payload) is None:
                raise
        finally:
            _close(message, payload)
        return self._succeeded(message, damage_of(payload))

    def _awaitable(self, message: Message, payload: BinaryIO) -> AsyncPayload:
        """Return a payload as coroutines read it; a small one is read here and now.

        :raises CorruptDataError: it isn't what was handed in
        """
        if message.size > _SMALL_BYTES:
            return AsyncPayload(payload, self._readers)
        with payload:
            return AsyncPayload(io.BytesIO(payload.read()), None)

    async def run_async(self, ready: Ready, is_stopping: Callable[[], bool]) -> None:
        """Run a handler that is a coroutine, in a context that the caller has made for it.

        :param is_stopping: tells of a cancellation that it's for the worker's sake, and no failure
        """
        started = time.monotonic()
        message = ready.message
        current.set(message.id)
        try:
            try:
                with self._observers.attempt(message):
                    _refuse_awaitable(ready.handle, await ready.handle(message, ready.payload))
            except BaseException:
                if ready.payload.damage is None:
                    raise
            ready.job.outcome = self._succeeded(message, ready.payload.damage)
        except BaseException as error:  # noqa: BLE001 -- whatever a handler raises, SystemExit too, is its failure
            was_cancelled = isinstance(error, asyncio.CancelledError) and is_stopping()
            ready.job.outcome = Released() if was_cancelled else self._failed(message, error)
        ready.job.seconds = time.monotonic() - started

    @staticmethod
    def done(ready: Ready) -> None:
        """Let go of a message's payload, whether its handler has run or not."""
        closing = ready.payload.close_soon()
        if closing is not None:
            closing.add_done_callback(lambda closed: _log_unclosed(ready.message, closed))

    def _succeeded(self, message: Message, damage: CorruptDataError | None) -> Outcome:
        if damage is not None:  # whatever the handler has made of it
            _log.error("%s", damage)
            return GivenUp(error_text(damage))
        return Succeeded(self._changed_headers(message))

    def _failed(self, message: Message, error: BaseException) -> Outcome:
        error = _most_hopeful(error)
        if not isinstance(error, (PermanentError, RetryableError)):
            _log.info("message %s: its handler failed", message.id, exc_info=error)
        try:
            headers = self._changed_headers(message)
        except Exception as invalid:  # noqa: BLE001 -- whatever it made of them, the message goes on with those it had
            _log.warning("message %s: the headers that its handler set are dropped: %s", message.id, invalid)
            headers = None
        after = getattr(error, "after", None) if isinstance(error, RetryableError) else None
        of_message = isinstance(error, RetryableError) and getattr(error, "concerns", None) == "message"
        return Failed(
            error_text(error),
            permanent=isinstance(error, PermanentError),
            after=after if isinstance(after, timedelta) else None,
            headers=headers,
            concerns="message" if of_message else "route",
            route_is_out=isinstance(error, RouteError),
        )

    def _changed_headers(self, message: Message) -> dict[str, str] | None:
        """Return the headers, as they are to be stored, if the handler has changed them.

        :raises InvalidInputError: they can't be stored
        """
        before = self._spool.opened(message.record).headers
        if message.headers == user_headers(before):
            return None
        validate_metadata(replace(message.record, headers={**user_headers(message.headers), **own_headers(before)}))
        return dict(self._spool.with_headers(message.record, message.headers).headers)


def _unreadable(message: Message, part: str, error: StorageError | OSError) -> GivenUp | SetAside:
    """Return what becomes of a message that can't be read: given up where that's for good, else tried again."""
    if isinstance(error, (DataNotFoundError, CorruptDataError)):
        _log.error("message %s: %s", message.id, error)
        return GivenUp(error_text(error))
    _log.warning("message %s: its %s can't be read: %s", message.id, part, error)
    return SetAside(error_text(error))


def _refuse_awaitable(handle: object, result: object) -> None:
    if result is not None and hasattr(result, "__await__"):
        msg = f"{handle!r} returned {result!r}, which nobody awaits: a handler is done when it returns"
        raise TypeError(msg)


def _most_hopeful(error: BaseException) -> BaseException:
    """Return which error of a group counts, as of a `TaskGroup`'s: one that may be mended, if there's any."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(cast("BaseExceptionGroup[BaseException]", error)))
    hopeful = [leaf for leaf in leaves if not isinstance(leaf, PermanentError)]
    asked_for = [leaf for leaf in hopeful if isinstance(leaf, RetryableError)]
    return [*asked_for, *hopeful, *leaves][0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            yield error


def _log_unclosed(message: Message, closed: Future[None]) -> None:
    if closed.exception() is not None:
        _log.warning("message %s: closing its payload failed", message.id, exc_info=closed.exception())


def _close(message: Message, payload: BinaryIO) -> None:
    try:
        payload.close()
    except Exception:  # noqa: BLE001 -- the handler has read what it wanted
        _log.warning("message %s: closing its payload failed", message.id, exc_info=True)
