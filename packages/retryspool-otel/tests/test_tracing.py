from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import BinaryIO

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, get_current_span, get_tracer

from retryspool import Message, MessageExistsError, Outgoing, PermanentError, Queue, QueueError, RetryableError
from retryspool.meta import Write, WriteResult
from retryspool.queue import AsyncPayload
from retryspool_otel import instrument

from .conftest import Telemetry


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def nothing(_message: Message, _payload: BinaryIO) -> None:
    """Handle any message."""


def test_a_message_is_sent_and_processed_in_one_trace(queue: Queue, telemetry: Telemetry) -> None:
    queue.add_handler(nothing)
    record = queue.enqueue(b"hello", route="example.com")
    queue.run(until_idle=True)

    sent, processed = telemetry.spans
    assert ("send example.com", SpanKind.PRODUCER, None) == (sent.name, sent.kind, sent.parent)
    assert ("process example.com", SpanKind.CONSUMER) == (processed.name, processed.kind)
    assert ids(sent) == parent(processed)
    assert [ids(sent)] == [(link.context.trace_id, link.context.span_id) for link in processed.links]
    assert {
        "messaging.system": "retryspool",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "example.com",
        "messaging.message.id": record.id,
    } == attributes(sent)
    assert {
        "messaging.system": "retryspool",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "example.com",
        "messaging.message.id": record.id,
        "messaging.message.body.size": 5,
        "retryspool.message.attempts": 0,
        "retryspool.message.deliveries": 1,
        "retryspool.message.claimed_from": "incoming",
        "retryspool.message.outcome": "delivered",
    } == attributes(processed)
    assert StatusCode.UNSET is sent.status.status_code is processed.status.status_code


def test_the_span_of_an_attempt_is_as_long_as_its_handler(queue: Queue, telemetry: Telemetry) -> None:
    seen: list[object] = []

    @queue.handler
    def deliver(_message: Message, _payload: BinaryIO) -> None:
        seen.append(get_current_span().get_span_context())
        with get_tracer("test", tracer_provider=telemetry.tracer_provider).start_as_current_span("inner"):
            pass

    queue.enqueue(b"")
    queue.run(until_idle=True)

    (inner,) = telemetry.named("inner")
    process = telemetry.span("process")
    assert [process.context] == seen
    assert ids(process) == parent(inner)
    assert None not in {process.start_time, inner.start_time, inner.end_time, process.end_time}
    assert process.start_time <= inner.start_time <= inner.end_time <= process.end_time  # type: ignore[operator]


def test_the_span_of_an_attempt_ends_before_its_result_is_stored(
    queue: Queue, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[int] = []
    apply = queue.spool.apply

    def note(writes: Sequence[Write]) -> list[WriteResult]:
        stored.append(time.time_ns())
        return apply(writes)

    monkeypatch.setattr(queue.spool, "apply", note)
    queue.add_handler(nothing)
    queue.enqueue(b"")
    queue.run(until_idle=True)

    ended = telemetry.span("process").end_time
    assert ended is not None
    assert ended <= stored[0]


def test_the_span_of_a_coroutine_is_current_in_it_alone(queue: Queue, telemetry: Telemetry) -> None:
    seen: dict[str, int] = {}

    @queue.handler
    async def deliver(message: Message, payload: AsyncPayload) -> None:
        await payload.read()
        seen[message.id] = get_current_span().get_span_context().span_id

    for number in range(5):
        queue.enqueue(b"x", message_id=f"m{number}")
    queue.run(until_idle=True)

    spans = telemetry.named("process")
    assert 5 == len(spans)
    assert seen == {str(attributes(span)["messaging.message.id"]): ids(span)[1] for span in spans}


def test_each_attempt_has_a_span_with_its_error_and_what_became_of_it(queue: Queue, telemetry: Telemetry) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        if message.attempts == 0:
            raise RetryableError("slow down", after=0)
        raise PermanentError("gone")

    queue.enqueue(b"", route="r")
    queue.run(until_idle=True)

    first, second = telemetry.named("process")
    assert ids(telemetry.span("send")) == parent(first) == parent(second)
    assert [0, 1] == [attributes(span)["retryspool.message.attempts"] for span in (first, second)]
    assert [1, 2] == [attributes(span)["retryspool.message.deliveries"] for span in (first, second)]
    assert ["deferred", "bounced"] == [attributes(span)["retryspool.message.outcome"] for span in (first, second)]
    assert ["retryspool.errors.RetryableError", "retryspool.errors.PermanentError"] == [
        attributes(span)["error.type"] for span in (first, second)
    ]
    assert [(StatusCode.ERROR, "RetryableError: slow down"), (StatusCode.ERROR, "PermanentError: gone")] == [
        (span.status.status_code, span.status.description) for span in (first, second)
    ]
    assert ["exception"] == [event.name for event in first.events]
    assert "retryspool.message.next_retry" in attributes(first)
    assert "retryspool.message.next_retry" not in attributes(second)


def test_what_is_sent_by_a_handler_goes_on_with_its_trace(queue: Queue, telemetry: Telemetry) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        if message.route == "first":
            queue.enqueue(b"", route="second")

    queue.enqueue(b"", route="first")
    queue.run(until_idle=True)

    spans = {span.name: span for span in telemetry.spans}
    assert ids(spans["process first"]) == parent(spans["send second"])
    assert ids(spans["send second"]) == parent(spans["process second"])
    assert 1 == len({ids(span)[0] for span in telemetry.spans})


def test_a_context_that_a_message_has_already_is_kept(queue: Queue, telemetry: Telemetry) -> None:
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    queue.add_handler(nothing)
    record = queue.enqueue(b"", headers={"traceparent": given})
    queue.enqueue_many([Outgoing(payload=b"", headers={"traceparent": given}), Outgoing(payload=b"")])
    assert given == queue.get(record.id).headers["traceparent"]
    queue.run(until_idle=True)

    remote = (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331)
    assert 2 == [parent(span) for span in telemetry.named("process")].count(remote)
    for span in telemetry.named("send"):
        assert remote == (span.links[0].context.trace_id, span.links[0].context.span_id)
    assert 1 == len(telemetry.named("create"))


@pytest.mark.parametrize("header", ["nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01", ""])
def test_a_context_that_is_none_is_replaced(header: str, queue: Queue, telemetry: Telemetry) -> None:
    queue.add_handler(nothing)
    queue.enqueue(b"", headers={"traceparent": header})
    queue.run(until_idle=True)

    assert ids(telemetry.span("send")) == parent(telemetry.span("process"))


def test_messages_that_are_sent_together_each_have_a_trace_of_their_own_to_be_followed_by(
    queue: Queue, telemetry: Telemetry
) -> None:
    queue.add_handler(nothing)
    queue.enqueue_many([Outgoing(payload=b"", route=route) for route in "ab"])
    queue.run(until_idle=True)

    creates = {span.name.split()[1]: span for span in telemetry.named("create")}
    processes = {span.name.split()[1]: span for span in telemetry.named("process")}
    send = telemetry.span("send")
    assert {route: ids(creates[route]) for route in "ab"} == {route: parent(processes[route]) for route in "ab"}
    assert {ids(span) for span in creates.values()} == {(x.context.trace_id, x.context.span_id) for x in send.links}
    assert ("send", SpanKind.CLIENT, 2) == (send.name, send.kind, attributes(send)["messaging.batch.message_count"])


def test_what_is_not_stored_is_an_error_of_its_span(queue: Queue, telemetry: Telemetry) -> None:
    queue.enqueue(b"", message_id="m")
    with pytest.raises(MessageExistsError):
        queue.enqueue(b"", message_id="m")
    queue.enqueue_many([Outgoing(payload=b"", message_id="m"), Outgoing(payload=b"")])
    queue.enqueue(b"", message_id="m", if_exists="skip")

    first, second, many, skipped = telemetry.named("send")
    assert [StatusCode.UNSET, StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET] == [
        span.status.status_code for span in (first, second, many, skipped)
    ]
    assert "retryspool.errors.MessageExistsError" == attributes(second)["error.type"]
    assert "1 of 2 weren't stored" == many.status.description


def test_a_message_that_is_written_piece_by_piece_is_traced_too(queue: Queue, telemetry: Telemetry) -> None:
    queue.add_handler(nothing)
    with queue.begin_enqueue(route="r") as writer:
        writer.write(b"hello")
    queue.run(until_idle=True)

    assert ids(telemetry.span("send")) == parent(telemetry.span("process"))


def test_a_lost_lease_is_an_error_of_its_span(queue: Queue, telemetry: Telemetry) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        queue.delete(message.id, force=True)

    queue.enqueue(b"")
    queue.run(until_idle=True)

    span = telemetry.span("process")
    assert ("lost_lease", "lost_leases") == (
        attributes(span)["error.type"],
        attributes(span)["retryspool.message.outcome"],
    )
    assert StatusCode.ERROR is span.status.status_code


def test_a_payload_that_is_damaged_is_an_error_of_its_span(queue: Queue, telemetry: Telemetry) -> None:
    @queue.handler
    def deliver(_message: Message, payload: BinaryIO) -> None:
        payload.read()

    record = queue.enqueue(b"hello")
    queue.spool.data.store_data(record.id, b"jello")
    queue.run(until_idle=True)

    span = telemetry.span("process")
    assert ("CorruptDataError", "bounced") == (
        str(attributes(span)["error.type"]).rpartition(".")[2],
        attributes(span)["retryspool.message.outcome"],
    )
    assert StatusCode.ERROR is span.status.status_code


def test_nothing_is_kept_of_attempts_that_are_over(queue: Queue, telemetry: Telemetry) -> None:
    queue.add_handler(nothing)
    for _ in range(20):
        queue.enqueue(b"")
    queue.run(until_idle=True)

    (tracing,) = [each for each in queue._observers.all if type(each).__name__ == "Tracing"]
    assert 20 == len(telemetry.named("process"))
    assert {} == tracing._attempts  # type: ignore[attr-defined]


def test_without_a_provider_nothing_is_added(telemetry: Telemetry) -> None:
    del telemetry
    queue = Queue.open(meta="memory:no-provider", data="memory:no-provider")
    with queue:
        instrument(queue)
        queue.add_handler(nothing)
        assert {} == dict(queue.enqueue(b"").headers)
        queue.run(until_idle=True)
        assert 1 == queue.counters.snapshot()["delivered"]


def test_a_queue_is_instrumented_once(queue: Queue) -> None:
    with pytest.raises(QueueError, match="already"):
        instrument(queue)


def test_threads_have_traces_of_their_own(queue: Queue, telemetry: Telemetry) -> None:
    both = threading.Barrier(2)

    def send(route: str) -> None:
        with get_tracer("test", tracer_provider=telemetry.tracer_provider).start_as_current_span(f"outer {route}"):
            both.wait(20)
            queue.enqueue(b"", route=route)

    threads = [threading.Thread(target=send, args=(route,)) for route in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    spans = {span.name: span for span in telemetry.spans}
    assert all(ids(spans[f"outer {route}"]) == parent(spans[f"send {route}"]) for route in "ab")
