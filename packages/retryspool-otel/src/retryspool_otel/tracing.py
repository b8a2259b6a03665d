"""Traces: a span for the storing of a message, and one for each attempt to handle it, in one trace."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from retryspool import Message, MessageMetadata, Observer, State
from retryspool.queue import Settled, Submission
from retryspool_otel import names

__all__ = ["Tracing"]

_W3C = TraceContextTextMapPropagator()

_NO_ERRORS = frozenset({"released", "put_off"})
"""Outcomes that aren't the message's fault, whatever its handler ended with."""


class Tracing(Observer):
    """Makes spans of what it's told.

    A span of an attempt ends when its handler does, but goes out once the result is stored: only then it's known what
    has become of the message.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._lock = threading.Lock()
        self._attempts: dict[str, _Attempt] = {}

    # -- in ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def accepting(self, messages: Sequence[Submission]) -> Generator[None]:
        links = [self._with_context(message, alone=len(messages) == 1) for message in messages]
        attributes = _sending(messages)
        with self._tracer.start_as_current_span(
            _named("send", attributes.get(names.DESTINATION)),
            kind=SpanKind.PRODUCER if len(messages) == 1 else SpanKind.CLIENT,
            links=[link for link in links if link is not None],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            if len(messages) == 1 and links == [None]:
                _W3C.inject(messages[0].headers)
            try:
                yield
            except BaseException as error:
                _fail(span, error, time.time_ns())
                raise
            refused = [message.error for message in messages if message.error is not None]
            if refused:
                _fail(span, refused[0], time.time_ns(), f"{len(refused)} of {len(messages)} weren't stored")

    def _with_context(self, message: Submission, *, alone: bool) -> Link | None:
        """Return a link to the context that a message has: the user's, or that of a span of its own if there are more.

        A message that is alone is given that of the span that sends it.
        """
        given = _span_in(_W3C.extract(message.headers, Context()))
        if given is not None:
            return Link(given)
        if alone:
            return None
        attributes: dict[str, AttributeValue] = {
            names.SYSTEM: names.SYSTEM_NAME,
            names.OPERATION: "create",
            names.OPERATION_TYPE: "create",
            names.MESSAGE_ID: message.record.id,
            **_destination(message.record),
        }
        name = _named("create", message.record.route)
        with self._tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes) as span:
            _W3C.inject(message.headers)
            return Link(span.get_span_context())

    # -- out -----------------------------------------------------------------------------------------------------------

    @contextmanager
    def attempt(self, message: Message) -> Generator[None]:
        context = _W3C.extract(message.headers, Context())
        made_by = _span_in(context)
        span = self._tracer.start_span(
            _named("process", message.route),
            context=context,
            kind=SpanKind.CONSUMER,
            links=[] if made_by is None else [Link(made_by)],
            attributes={
                names.SYSTEM: names.SYSTEM_NAME,
                names.OPERATION: "process",
                names.OPERATION_TYPE: "process",
                names.MESSAGE_ID: message.id,
                names.BODY_SIZE: message.size,
                names.ATTEMPTS: message.attempts,
                names.DELIVERIES: message.deliveries,
                names.CLAIMED_FROM: message.claimed_from.label,
                **_destination(message.record),
            },
        )
        attempt = _Attempt(span)
        with self._lock:
            self._attempts[message.id] = attempt
        try:
            with use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        except BaseException as error:
            attempt.error = error
            raise
        finally:
            attempt.ended_ns = time.time_ns()

    def settled(self, settled: Settled) -> None:
        attempt = self._take(settled.record.id)
        if attempt is None:
            return
        attempt.span.set_attribute(names.OUTCOME, settled.outcome)
        if settled.became is not None and settled.became.state is State.DEFERRED:
            attempt.span.set_attribute(names.NEXT_RETRY, settled.became.next_retry.isoformat())
        if settled.outcome not in _NO_ERRORS:
            if attempt.error is not None:
                _fail(attempt.span, attempt.error, attempt.ended_ns, settled.error)
            elif settled.error:
                attempt.span.set_attribute(names.ERROR_TYPE, settled.error.partition(":")[0])
                attempt.span.set_status(Status(StatusCode.ERROR, settled.error))
        attempt.span.end(attempt.ended_ns)

    def lost(self, record: MessageMetadata) -> None:
        attempt = self._take(record.id)
        if attempt is not None:
            attempt.span.set_attribute(names.OUTCOME, "lost_leases")
            attempt.span.set_attribute(names.ERROR_TYPE, "lost_lease")
            attempt.span.set_status(Status(StatusCode.ERROR, "its lease was lost, and so its result was discarded"))
            attempt.span.end(attempt.ended_ns)

    def _take(self, message_id: str) -> _Attempt | None:
        with self._lock:
            return self._attempts.pop(message_id, None)


@dataclass(slots=True, eq=False)
class _Attempt:
    """An attempt whose result isn't stored yet."""

    span: Span
    ended_ns: int | None = None
    error: BaseException | None = None


def _span_in(context: Context) -> SpanContext | None:
    """Return the span that a context taken from a message's headers names, if it does."""
    span = get_current_span(context).get_span_context()
    return span if span.is_valid else None


def _sending(messages: Sequence[Submission]) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.SYSTEM: names.SYSTEM_NAME,
        names.OPERATION: "send",
        names.OPERATION_TYPE: "send",
    }
    if len({message.record.route for message in messages}) == 1:
        attributes.update(_destination(messages[0].record))
    if len(messages) == 1:
        attributes[names.MESSAGE_ID] = messages[0].record.id
    else:
        attributes[names.BATCH_COUNT] = len(messages)
    return attributes


def _destination(record: MessageMetadata) -> dict[str, AttributeValue]:
    return {names.DESTINATION: record.route} if record.route else {}


def _named(operation: str, destination: object) -> str:
    return f"{operation} {destination}" if destination else operation


def _fail(span: Span, error: BaseException, when_ns: int | None, text: str = "") -> None:
    span.record_exception(error, timestamp=when_ns)
    span.set_attribute(names.ERROR_TYPE, names.type_of(error))
    span.set_status(Status(StatusCode.ERROR, text or f"{type(error).__name__}: {error}"))
