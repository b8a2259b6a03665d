"""Running one message's handler, and making an outcome of whatever happens."""

from __future__ import annotations

import logging
import time
from contextvars import Context
from datetime import timedelta
from typing import BinaryIO

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
from retryspool.queue.handlers import Handle, Handlers
from retryspool.queue.message import Job, Message, own_headers, user_headers
from retryspool.queue.outcome import Failed, GivenUp, Outcome, SetAside, Succeeded, error_text
from retryspool.records import validate_metadata
from retryspool.spool import Spool, damage_of

__all__ = ["Runner"]

_log = logging.getLogger(__name__)


class Runner:
    """Runs handlers: never raises, always leaves an outcome."""

    def __init__(self, spool: Spool, handlers: Handlers) -> None:
        self._spool = spool
        self._handlers = handlers

    def run(self, job: Job) -> None:
        """Run the handler for a job, in a context of its own."""
        started = time.monotonic()
        message = Message(job)
        try:
            job.outcome = Context().run(self._run, message)
        except BaseException as error:  # noqa: BLE001 -- whatever a handler raises, SystemExit too, is its failure
            job.outcome = self._failed(message, error)
        job.seconds = time.monotonic() - started

    def _run(self, message: Message) -> Outcome:
        current.set(message.id)
        try:
            message.headers = user_headers(self._spool.opened(message.record).headers)
        except StorageError as error:
            _log.warning("message %s: its headers can't be read: %s", message.id, error)
            return SetAside(error_text(error))
        handle = self._handlers.choose(message)
        if handle is None:
            _log.debug("message %s: no handler takes it", message.id)
            return SetAside()
        try:
            payload = self._spool.open_payload(message.record)
        except (DataNotFoundError, CorruptDataError) as error:
            _log.error("message %s: %s", message.id, error)
            return GivenUp(error_text(error))
        except (StorageError, OSError) as error:
            _log.warning("message %s: its payload can't be read: %s", message.id, error)
            return SetAside(error_text(error))
        try:
            self._handle(handle, message, payload)
        except BaseException:
            if damage_of(payload) is None:
                raise
        finally:
            _close(message, payload)
        damage = damage_of(payload)
        if damage is not None:  # whatever the handler has made of it
            _log.error("%s", damage)
            return GivenUp(error_text(damage))
        return Succeeded(self._changed_headers(message))

    @staticmethod
    def _handle(handle: Handle, message: Message, payload: BinaryIO) -> None:
        result = handle(message, payload)
        if result is not None and hasattr(result, "__await__"):
            msg = f"{handle!r} returned {result!r}, which nobody awaits: a handler is done when it returns"
            raise TypeError(msg)

    def _failed(self, message: Message, error: BaseException) -> Outcome:
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


def _close(message: Message, payload: BinaryIO) -> None:
    try:
        payload.close()
    except Exception:  # noqa: BLE001 -- the handler has read what it wanted
        _log.warning("message %s: closing its payload failed", message.id, exc_info=True)
