"""The queue as coroutines, on three backends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest
from queues import wait_until

from retryspool import (
    BackendClosedError,
    DeadlineExceededError,
    Filter,
    InvalidOptionError,
    Message,
    MessageExistsError,
    MessageMetadata,
    MessageNotFoundError,
    Outgoing,
    PermanentError,
    Queue,
    QueueError,
    Spool,
    State,
    aio,
    current_message_id,
    deadline,
)
from retryspool.data import DataWriter
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.queue import AsyncPayload, changes

OpenQueue = Callable[..., aio.Queue]
LARGE = bytes(range(256)) * 4096
PATIENCE_S = 20.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- whatever it is that it waits for
            await asyncio.sleep(0.005)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("retryspool-")}


def test_what_a_queue_does_it_does_as_coroutines(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue() as queue:
            record = await queue.enqueue(b"hello", headers={"to": "x"}, message_id="a", route="r", priority=3)
            assert record == await queue.get("a")
            assert ({"to": "x"}, "r", 3, 5) == (record.headers, record.route, record.priority, record.size)
            with pytest.raises(MessageExistsError):
                await queue.enqueue(b"again", message_id="a")
            assert record == await queue.enqueue(b"again", message_id="a", if_exists="skip")

            many = await queue.enqueue_many(Outgoing(payload=b"", message_id=f"m{number}") for number in range(300))
            assert all(isinstance(each, MessageMetadata) for each in many)
            assert 301 == await queue.count(State.INCOMING) == (await queue.counts())[State.INCOMING]
            assert 301 == len({each.id async for each in queue.iter(State.INCOMING)})
            assert ["a"] == [each.id async for each in queue.select(Filter(routes=("r",)))]
            assert (("a",), 301) == (
                (page := await queue.list(State.INCOMING, limit=1)).message_ids,
                page.total,
            )
            assert await queue.oldest_due(State.INCOMING) is not None

            assert State.HOLD is (await queue.hold("a")).state
            assert State.INCOMING is (await queue.release("a")).state
            assert {"cc": "y"} == (await queue.update_headers("a", {"to": None, "cc": "y"})).headers
            assert "" == (await queue.set_route("a", "")).route
            assert 7 == (await queue.set_priority("a", 7)).priority
            await queue.set_retry_policy("a", "exponential")
            assert State.BOUNCE is (await queue.bounce("a", "no more")).state
            assert State.INCOMING is (await queue.retry("a")).state
            tally = await queue.change_all(changes.hold(), Filter(id_pattern="m*"))
            assert 300 == tally.changed
            assert State.INCOMING is (await queue.change_one("m0", changes.release())).state  # type: ignore[union-attr]
            await queue.delete("m0")
            with pytest.raises(MessageNotFoundError):
                await queue.get("m0")

            await queue.pause("r", by="me")
            assert {"r"} == set((await queue.paused()).routes)
            assert await queue.resume("r")
            await queue.resume_all()
            assert 0 == await queue.prune()
            assert [] == [each async for each in queue.reconcile()]
            assert [] == [each async for each in queue.check() if each.subject == "a"]
            assert 301 == queue.counters.snapshot()["accepted"]
            assert queue.sync.spool is queue.spool

    asyncio.run(main())


async def _chunks() -> AsyncIterator[bytes]:
    for start in range(0, len(LARGE), 100_000):
        await asyncio.sleep(0)
        yield LARGE[start : start + 100_000]


def _pieces() -> Iterator[bytes]:
    yield from (LARGE[:10], LARGE[10:])


@pytest.mark.parametrize("make", [lambda: LARGE, _pieces, _chunks], ids=["bytes", "iterable", "asynchronous"])
def test_a_payload_goes_in_and_comes_out_as_it_was(open_queue: OpenQueue, make: Callable[[], aio.Payload]) -> None:
    async def main() -> None:
        async with open_queue() as queue:
            record = await queue.enqueue(make(), headers={"to": "x"})
            async with await queue.open_payload(record.id) as payload:
                assert LARGE == await payload.read()
            copy = await queue.enqueue(await queue.open_payload(record.id), message_id="copy")
            async with await queue.open_payload("copy") as payload:
                assert LARGE == b"".join([chunk async for chunk in payload])
            assert (len(LARGE), {"to": "x"}, {}) == (record.size, record.headers, copy.headers)

    asyncio.run(main())


def test_a_message_is_written_piece_by_piece(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue() as queue:
            async with queue.begin_enqueue(message_id="a") as message:
                assert 3 == await message.write(b"one")
                assert 3 == await message.write(b"two")
                message.headers["lines"] = "2"
                assert not message.stored
                with pytest.raises(MessageNotFoundError):
                    await queue.get("a")
            assert (6, {"lines": "2"}, "a") == (message.record.size, message.record.headers, message.message_id)

            async def fail() -> None:
                async with queue.begin_enqueue(message_id="b") as message:
                    await message.write(b"half")
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            async with queue.begin_enqueue(message_id="a", if_exists="skip") as message:
                await message.write(b"more")
            assert 6 == message.record.size
            assert ["a"] == [each.id async for each in queue.iter(State.INCOMING)]
            assert ["a"] == [each.message_id for each in queue.spool.data.iter_data()]

    asyncio.run(main())


def test_a_message_that_has_not_begun_says_so() -> None:
    async def main() -> None:
        async with aio.Queue.open(meta="memory:", data="memory:") as queue:
            message = queue.begin_enqueue()
            with pytest.raises(ValueError, match="enter it with 'async with'"):
                await message.write(b"")

    asyncio.run(main())


def test_coroutines_run_in_the_callers_loop_and_functions_in_threads(open_queue: OpenQueue) -> None:
    ran: dict[str, object] = {}

    class ByRoute:
        def can_handle(self, message: Message) -> bool:
            return message.route == "function"

        def handle(self, message: Message, payload: BinaryIO) -> None:
            ran[message.id] = (threading.current_thread().name.rstrip("0123456789"), payload.read())

    async def main() -> None:
        queue = open_queue()
        queue.add_handler(ByRoute())

        @queue.handler
        async def deliver(message: Message, payload: AsyncPayload) -> None:
            ran[message.id] = (asyncio.get_running_loop(), await payload.read(), current_message_id())

        async with queue:
            assert queue.running
            await queue.enqueue(b"1", message_id="f", route="function")
            await queue.enqueue(LARGE, message_id="c")
            await until(lambda: len(ran) == 2)
        assert not queue.running
        assert {"f": ("retryspool-handler-", b"1"), "c": (asyncio.get_running_loop(), LARGE, "c")} == ran

    asyncio.run(main())


def test_run_until_idle_handles_what_is_due(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue(concurrency=50) as queue:
            handled: list[str] = []

            @queue.handler
            async def deliver(message: Message, _payload: AsyncPayload) -> None:
                await asyncio.sleep(0.01)
                if message.id == "m7":
                    raise PermanentError("no")
                handled.append(message.id)

            @queue.bounce_handler
            async def notify(message: Message, _payload: AsyncPayload) -> None:
                handled.append(f"bounced {message.id}")

            await queue.enqueue_many([Outgoing(payload=b"", message_id=f"m{number}") for number in range(100)])
            await queue.run(until_idle=True)
            await queue.run(until_idle=True)

            assert sorted(["bounced m7", *(f"m{number}" for number in range(100) if number != 7)]) == sorted(handled)
            assert {State.BOUNCE: 1} == {state: count for state, count in (await queue.counts()).items() if count}

    asyncio.run(main())


def test_a_handler_enqueues_and_stops_its_own_queue(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue(threads=1, concurrency=4) as queue:

            @queue.handler
            async def deliver(message: Message, _payload: AsyncPayload) -> None:
                if message.route:
                    await queue.stop()
                else:
                    await queue.enqueue(b"", route="next")

            await queue.enqueue(b"")
            await asyncio.wait_for(queue.run(), PATIENCE_S)
            await until(lambda: queue.counters.snapshot()["delivered"] == 2)

    asyncio.run(main())


def test_a_handler_that_waits_for_a_thread_does_not_wait_for_a_stop(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue(threads=1) as queue:
            entered, go_on = asyncio.Event(), asyncio.Event()

            @queue.handler
            async def deliver(_message: Message, _payload: AsyncPayload) -> None:
                entered.set()
                await go_on.wait()
                await queue.enqueue(b"", message_id="next", not_before=3600)

            await queue.enqueue(b"")
            await queue.start()
            await entered.wait()
            stopping = asyncio.create_task(queue.stop())
            await until(lambda: not queue.running)
            go_on.set()
            await asyncio.wait_for(stopping, PATIENCE_S)
            assert "next" == (await queue.get("next")).id
            assert 1 == queue.counters.snapshot()["delivered"]

    asyncio.run(main())


def test_a_queue_is_opened_by_await_too_and_used_from_several_loops(tmp_path: Path) -> None:
    queue = aio.Queue.open(tmp_path)
    with pytest.raises(QueueError, match="isn't open yet"):
        _ = queue.counters
    assert not queue.running

    async def main(message_id: str) -> None:
        assert queue is await queue
        await queue.enqueue(b"", message_id=message_id)

    asyncio.run(main("a"))
    asyncio.run(main("b"))
    asyncio.run(queue.close())
    asyncio.run(queue.close())

    wait_until(lambda: not threads())
    with Queue.open(tmp_path) as again:
        assert 2 == again.count(State.INCOMING)
    with pytest.raises(BackendClosedError):
        asyncio.run(queue.get("a"))


def test_what_is_wrong_with_the_settings_shows_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match="concurrency is 0"):
        aio.Queue.open(tmp_path / "spool", concurrency=0)
    with pytest.raises(InvalidOptionError, match="threads is 0"):
        aio.Queue.open(tmp_path / "spool", threads=0)
    assert [] == list(tmp_path.iterdir())


def test_a_queue_is_made_of_a_spool_too() -> None:
    async def main() -> None:
        async with aio.Queue(Spool(MemoryMeta(), MemoryData())) as queue:
            await queue.enqueue(b"")
            assert 1 == await queue.count(State.INCOMING)

    asyncio.run(main())


def test_starting_without_a_handler_is_an_error(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue() as queue:
            with pytest.raises(QueueError, match="has no handler"):
                await queue.start()
            with pytest.raises(QueueError, match="has no handler"):
                await queue.run()

    asyncio.run(main())


def test_a_deadline_goes_along_into_the_threads(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue() as queue:
            with deadline(0), pytest.raises(DeadlineExceededError):
                await queue.enqueue(b"", message_id="a")
            with deadline(0), pytest.raises(DeadlineExceededError):
                _ = [record async for record in queue.iter(State.INCOMING)]
            await queue.enqueue(b"", message_id="a")

    asyncio.run(main())


class _Meeting(MemoryData):
    """A backend whose stores wait for each other, or for a while if they can't; it notes how many met."""

    def __init__(self, parties: int, patience_s: float) -> None:
        super().__init__()
        self.barrier = threading.Barrier(parties)
        self.patience_s = patience_s

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        with suppress(threading.BrokenBarrierError):
            self.barrier.wait(self.patience_s)
        return super().get_data_writer(message_id, if_absent=if_absent)


@pytest.mark.parametrize(("count", "meets"), [(16, True), (15, False)])
def test_as_many_enqueues_overlap_as_there_are_threads(count: int, *, meets: bool) -> None:
    async def main() -> None:
        data = _Meeting(16, PATIENCE_S if meets else 0.2)
        async with aio.Queue(Spool(MemoryMeta(), data), threads=count) as queue:
            await asyncio.gather(*(queue.enqueue(b"") for _ in range(16)))
            assert meets is not data.barrier.broken
            assert 16 == await queue.count(State.INCOMING)

    asyncio.run(main())


def test_the_loop_is_never_held_up(open_queue: OpenQueue) -> None:
    async def main() -> None:
        late = 0.0

        async def watch() -> None:
            nonlocal late
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.01)
                late = max(late, time.monotonic() - before - 0.01)

        async with open_queue(concurrency=100) as queue:
            watching = asyncio.create_task(watch())

            @queue.handler
            async def deliver(_message: Message, payload: AsyncPayload) -> None:
                assert LARGE[:300_000] == await payload.read()

            await asyncio.gather(*(queue.enqueue(LARGE[:300_000]) for _ in range(100)))
            assert 100 == len([record async for record in queue.iter(State.INCOMING)])
            await queue.run(until_idle=True)
            assert 100 == queue.counters.snapshot()["delivered"]
            watching.cancel()

        assert 1 > late  # what blocks for longer would be waiting for a store

    asyncio.run(main())
