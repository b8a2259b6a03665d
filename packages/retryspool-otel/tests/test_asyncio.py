"""The queue as coroutines tells the same."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.trace import get_current_span, get_tracer

from retryspool import Message, QueueError, Spool, aio
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.queue import AsyncPayload
from retryspool_otel import instrument

from .conftest import Telemetry


def test_a_message_that_is_enqueued_and_handled_by_coroutines_has_one_trace(telemetry: Telemetry) -> None:
    seen: list[int] = []

    async def send_and_handle() -> None:
        async with aio.Queue(Spool(MemoryMeta(), MemoryData())) as queue:
            instrument(queue, telemetry.tracer_provider, telemetry.meter_provider)

            @queue.handler
            async def deliver(_message: Message, payload: AsyncPayload) -> None:
                await payload.read()
                seen.append(get_current_span().get_span_context().span_id)

            tracer = get_tracer("test", tracer_provider=telemetry.tracer_provider)
            with tracer.start_as_current_span("outer"):
                await queue.enqueue(b"hello", route="r")
            await queue.run(until_idle=True)
            numbers = await asyncio.to_thread(telemetry.numbers)
            assert 1 == numbers["retryspool.delivered", ()]
            assert 0 == numbers["retryspool.backlog.messages", (("retryspool.message.state", "incoming"),)]

    asyncio.run(send_and_handle())

    spans = {span.name: span for span in telemetry.spans}
    contexts = {name: span.context for name, span in spans.items()}
    assert {"outer", "send r", "process r"} == set(spans)
    assert spans["send r"].parent == contexts["outer"]
    process = contexts["process r"]
    assert process is not None
    assert [process.span_id] == seen
    parent, send = spans["process r"].parent, contexts["send r"]
    assert parent is not None
    assert send is not None
    assert (send.trace_id, send.span_id) == (parent.trace_id, parent.span_id)


def test_it_is_instrumented_once_and_when_it_is_open() -> None:
    async def twice() -> None:
        unopened = aio.Queue.open(meta="memory:unopened", data="memory:unopened")
        with pytest.raises(QueueError, match="isn't open yet"):
            instrument(unopened)
        async with unopened as queue:
            instrument(queue)
            with pytest.raises(QueueError, match="already"):
                instrument(queue)

    asyncio.run(twice())
