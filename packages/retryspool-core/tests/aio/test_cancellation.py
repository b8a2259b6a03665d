"""What a cancellation leaves behind, wherever it comes: the whole, or nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from retryspool import (
    BackendClosedError,
    Filter,
    Message,
    MessageMetadata,
    Outgoing,
    QueueError,
    Spool,
    State,
    aio,
)
from retryspool.aio.inner import Inner
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.queue import AsyncPayload, Tally, changes

OpenQueue = Callable[..., aio.Queue]
PATIENCE_S = 20.0
LARGE = bytes(range(256)) * 4096


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 -- whatever it is that it waits for
            await asyncio.sleep(0.005)


class Cut:
    """Awaits a coroutine, and has its task cancelled when it waits for the `at`-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, object], at: int) -> None:
        self._coroutine = coroutine
        self._at = at
        self.waits = 0

    def __await__(self) -> Generator[Any, None, object]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        result: object = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            self.waits += 1
            if self.waits == self._at:
                loop.call_soon(task.cancel)
            try:
                result = yield waits_for
            except BaseException as raised:  # noqa: BLE001 -- it's passed on
                error = raised
            assert result is None


async def cut_everywhere(
    operation: Callable[[int], Coroutine[Any, Any, object]], check: Callable[[int], Awaitable[object]]
) -> int:
    """Run an operation again and again, each time cancelled one await later, until it comes through; check each."""
    for at in range(1, 1000):
        cut = Cut(operation(at), at)

        async def run(cut: Cut = cut) -> None:
            await cut

        results = await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results), results
        await check(at)
        if cut.waits < at:
            return at
    raise AssertionError


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        await asyncio.sleep(0)
        yield b"x" * 1000


async def is_whole(queue: aio.Queue, message_id: str) -> bool:
    """Tell whether a message is there; fail if anything but the whole of it or nothing is."""
    records = {record.id: record async for record in queue.iter(State.INCOMING)}
    payloads = {each.message_id: each.size for each in queue.spool.data.iter_data()}
    assert {record.id: record.size for record in records.values()} == payloads
    return message_id in records


@pytest.mark.parametrize("way", ["bytes", "asynchronous", "writer"])
def test_a_cancelled_enqueue_has_stored_the_message_or_has_not(open_queue: OpenQueue, tmp_path: Path, way: str) -> None:
    async def main() -> None:
        async with open_queue() as queue:

            async def enqueue(at: int) -> None:
                if way == "writer":
                    async with queue.begin_enqueue(message_id=f"m{at}") as message:
                        await message.write(b"a" * 1500)
                        await message.write(b"b" * 1500)
                else:
                    await queue.enqueue(b"x" * 3000 if way == "bytes" else _chunks(), message_id=f"m{at}")

            async def check(at: int) -> None:
                if not await is_whole(queue, f"m{at}"):
                    await enqueue(at)  # nothing is in its way
                assert 3000 == (await queue.get(f"m{at}")).size

            assert await cut_everywhere(enqueue, check) > (1 if way == "bytes" else 3)

    asyncio.run(main())
    gc.collect()
    assert [] == [path for path in tmp_path.rglob("*.tmp*") if path.is_file()]


def test_a_cancelled_open_and_a_cancelled_block_leave_nothing_open(tmp_path: Path) -> None:
    async def main() -> None:
        async def use(at: int) -> None:
            queue = aio.Queue.open(tmp_path / str(at))

            @queue.handler
            async def deliver(_message: Message, payload: AsyncPayload) -> None:
                await payload.read()

            async with queue:
                await queue.enqueue(b"x")
                await queue.open_payload((await queue.enqueue(LARGE, not_before=3600)).id)

        async def check(_at: int) -> None:
            gc.collect()  # what isn't closed complains, and the test fails
            assert set() == {thread.name for thread in threading.enumerate() if "dispatcher" in thread.name}

        assert await cut_everywhere(use, check) > 3

    asyncio.run(main())


def test_a_cancelled_reader_and_a_cancelled_iteration_can_be_repeated(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue() as queue:
            await queue.enqueue(LARGE, message_id="a")
            await queue.enqueue_many([Outgoing(payload=b"") for _ in range(250)])
            whole: list[tuple[int, int]] = []

            async def read(at: int) -> None:
                async with await queue.open_payload("a") as payload:
                    content = b"".join([chunk async for chunk in payload])
                whole.append((at, len(content)))
                assert 251 == len([record async for record in queue.iter(State.INCOMING)])

            async def check(_at: int) -> None:
                await read(0)
                gc.collect()

            assert await cut_everywhere(read, check) > 5
            assert {len(LARGE)} == {size for _, size in whole}

    asyncio.run(main())


# -- while a thread is at it -------------------------------------------------------------------------------------------


class Held(MemoryMeta):
    """Records that are stored when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        self.reached.set()
        assert self.go_on.wait(PATIENCE_S)
        return super().store_meta(message_id, metadata)


def test_a_cancellation_waits_for_the_thread_that_is_at_it() -> None:
    async def main() -> None:
        meta = Held()
        async with aio.Queue(Spool(meta, MemoryData())) as queue:
            enqueuing = asyncio.create_task(queue.enqueue(b"x", message_id="a"))
            await until(meta.reached.is_set)
            for _ in range(3):
                enqueuing.cancel()
                await asyncio.wait({enqueuing}, timeout=0.02)
                assert not enqueuing.done()
            meta.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await enqueuing
            assert await is_whole(queue, "a")

    asyncio.run(main())


def test_a_call_that_has_not_begun_is_not_made() -> None:
    async def main() -> None:
        meta = Held()
        async with aio.Queue(Spool(meta, MemoryData()), threads=1) as queue:
            first = asyncio.create_task(queue.enqueue(b"x", message_id="first"))
            await until(meta.reached.is_set)
            second = asyncio.create_task(queue.enqueue(b"x", message_id="second"))
            await asyncio.wait({second}, timeout=0.02)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            meta.go_on.set()
            await first
            assert ["first"] == [record.id async for record in queue.iter(State.INCOMING)]

    asyncio.run(main())


class HeldData(MemoryData):
    """Payloads that are opened when a test says so, and which note whether they were closed."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.readers: list[BinaryIO] = []

    def get_data_reader(self, message_id: str) -> BinaryIO:
        self.reached.set()
        assert self.go_on.wait(PATIENCE_S)
        self.readers.append(super().get_data_reader(message_id))
        return self.readers[-1]


def test_what_a_cancelled_call_has_opened_is_closed() -> None:
    async def main() -> None:
        data = HeldData()
        async with aio.Queue(Spool(MemoryMeta(), data)) as queue:
            record = await queue.enqueue(b"x")
            opening = asyncio.create_task(queue.open_payload(record.id))
            await until(data.reached.is_set)
            opening.cancel()
            await asyncio.sleep(0)
            data.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert [True] == [reader.closed for reader in data.readers]

    asyncio.run(main())


def test_a_writer_whose_commit_was_cancelled_before_it_began_is_aborted() -> None:
    async def main() -> None:
        meta = Held()
        async with aio.Queue(Spool(meta, MemoryData()), threads=1) as queue:
            messages: list[aio.MessageWriter] = []
            written, end = asyncio.Event(), asyncio.Event()

            async def write() -> None:
                async with queue.begin_enqueue(message_id="cut") as message:
                    messages.append(message)
                    await message.write(b"x")
                    written.set()
                    await end.wait()

            writing = asyncio.create_task(write())
            await written.wait()
            first = asyncio.create_task(queue.enqueue(b"x", message_id="first"))
            await until(meta.reached.is_set)
            end.set()
            await asyncio.wait({writing}, timeout=0.02)
            writing.cancel()
            await asyncio.wait({writing}, timeout=0.02)
            meta.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await writing
            await first
            with pytest.raises(ValueError, match="aborted"):
                await messages[0].commit()
            assert ["first"] == [each.message_id for each in queue.spool.data.iter_data()]

    asyncio.run(main())


class Gate:
    """What a thread waits at."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.go_on.wait(PATIENCE_S)

    async def cancel(self, task: asyncio.Task[Any]) -> None:
        """Cancel a task whose thread waits here, and let that go on."""
        await until(self.reached.is_set)
        task.cancel()
        await asyncio.sleep(0)
        self.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_a_queue_whose_opening_was_cancelled_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Inner] = []
    gate = Gate()

    def slowly(*_: object, **__: object) -> Inner:
        gate()
        opened.append(Inner(Spool(MemoryMeta(), MemoryData())))
        return opened[-1]

    async def main() -> None:
        monkeypatch.setattr(Inner, "open", slowly)
        queue = aio.Queue.open("anywhere")
        await gate.cancel(asyncio.create_task(queue.__aenter__()))
        with pytest.raises(QueueError, match="isn't open yet"):
            await queue.counts()
        with pytest.raises(BackendClosedError):
            opened[0].counts()

    asyncio.run(main())


def test_a_start_that_was_cancelled_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, begin = Gate(), Inner.begin

    def slowly(self: Inner, *arguments: Any, **settings: Any) -> object:
        gate()
        return begin(self, *arguments, **settings)

    async def main() -> None:
        monkeypatch.setattr(Inner, "begin", slowly)
        queue = aio.Queue(Spool(MemoryMeta(), MemoryData()))
        queue.add_handler(lambda _message, _payload: None)
        await gate.cancel(asyncio.create_task(queue.start()))
        assert not queue.running
        await queue.close()

    asyncio.run(main())


def test_a_cancelled_change_of_many_ends_after_its_batch() -> None:
    async def main() -> None:
        async with aio.Queue(Spool(MemoryMeta(), MemoryData())) as queue:
            await queue.enqueue_many([Outgoing(payload=b"") for _ in range(1000)])
            reached, go_on = threading.Event(), threading.Event()

            def slowly(batch: Sequence[MessageMetadata]) -> Sequence[MessageMetadata]:
                reached.set()
                assert go_on.wait(PATIENCE_S)
                return batch

            told: list[Tally] = []
            changing = asyncio.create_task(
                queue.change_all(changes.hold(), Filter(), before=slowly, progress=told.append)
            )
            await until(reached.is_set)
            changing.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await changing
            assert (100, []) == (await queue.count(State.HOLD), told)

    asyncio.run(main())


# -- work --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "when"),
    [(aio.Queue.run, "while it runs"), (aio.Queue.run, "while it begins"), (aio.Queue.start, "while it begins")],
    ids=["run", "run that begins", "start"],
)
def test_a_cancelled_run_lets_handlers_come_to_their_end(
    open_queue: OpenQueue, call: Callable[[aio.Queue], Coroutine[Any, Any, None]], when: str
) -> None:
    async def main() -> None:
        async with open_queue(concurrency=4) as queue:
            entered, go_on = asyncio.Semaphore(0), asyncio.Event()
            has_begun = threading.Event()
            begin = queue.sync.begin

            def begin_slowly(*args: Any, **options: Any) -> Any:
                worker = begin(*args, **options)
                assert has_begun.wait(PATIENCE_S)
                return worker

            queue.sync.begin = begin_slowly  # type: ignore[method-assign]
            if when == "while it runs":
                has_begun.set()

            @queue.handler
            async def deliver(_message: Message, _payload: AsyncPayload) -> None:
                entered.release()
                await go_on.wait()

            await queue.enqueue_many([Outgoing(payload=b"") for _ in range(10)])
            running = asyncio.create_task(call(queue))
            for _ in range(4):
                await asyncio.wait_for(entered.acquire(), PATIENCE_S)
            if when == "while it runs":
                await until(lambda: queue.running)
            running.cancel()
            await asyncio.sleep(0)
            has_begun.set()
            await until(lambda: not queue.running)
            assert not running.done()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert (4, 6) == (queue.counters.snapshot()["delivered"], await queue.count(State.INCOMING))
            assert {0} == {record.deliveries async for record in queue.iter(State.INCOMING)}

    asyncio.run(main())


@pytest.mark.parametrize("again", [True, False], ids=["cancelled again", "grace over"])
def test_handlers_are_cancelled_when_the_grace_is_over_or_a_second_cancellation_comes(
    open_queue: OpenQueue, *, again: bool
) -> None:
    async def main() -> None:
        async with open_queue(concurrency=4, grace_s=3600 if again else 0.05) as queue:
            entered = asyncio.Semaphore(0)
            seen: list[str] = []

            @queue.handler
            async def deliver(message: Message, _payload: AsyncPayload) -> None:
                entered.release()
                try:
                    await asyncio.Event().wait()
                finally:
                    seen.append(message.id)

            await queue.enqueue_many([Outgoing(payload=b"") for _ in range(6)])
            running = asyncio.create_task(queue.run())
            for _ in range(4):
                await asyncio.wait_for(entered.acquire(), PATIENCE_S)
            running.cancel()
            if again:
                await asyncio.sleep(0.02)
                assert [] == seen
                running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(running, PATIENCE_S)
            assert (4, 6) == (len(seen), await queue.count(State.INCOMING))
            assert {(0, 0)} == {(record.deliveries, record.attempts) async for record in queue.iter(State.INCOMING)}

    asyncio.run(main())


def test_a_run_is_cancelled_anywhere_and_leaves_nothing_active(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue(concurrency=4, grace_s=0) as queue:

            @queue.handler
            async def deliver(_message: Message, _payload: AsyncPayload) -> None:
                await asyncio.sleep(0.001)

            await queue.enqueue_many([Outgoing(payload=b"") for _ in range(50)])

            async def check(_at: int) -> None:
                assert not queue.running
                assert 0 == await queue.count(State.ACTIVE)
                left = [record async for record in queue.iter(State.INCOMING)]
                assert {0} >= {record.deliveries for record in left}
                assert 50 == len(left) + queue.counters.snapshot()["delivered"]

            assert await cut_everywhere(lambda _at: queue.run(until_idle=True), check) > 1
            await queue.run(until_idle=True)
            assert 50 == queue.counters.snapshot()["delivered"]

    asyncio.run(main())


def test_a_stop_under_load_loses_and_doubles_nothing(open_queue: OpenQueue) -> None:
    async def main() -> None:
        async with open_queue(concurrency=100, grace_s=0.02) as queue:
            delivered: list[str] = []
            accepted: list[str] = []

            @queue.handler
            async def deliver(message: Message, _payload: AsyncPayload) -> None:
                await asyncio.sleep(0.01)
                delivered.append(message.id)

            async def produce() -> None:
                while True:
                    accepted.append((await queue.enqueue(b"x")).id)

            producing = [asyncio.create_task(produce()) for _ in range(4)]
            for _ in range(3):
                running = asyncio.create_task(queue.run())
                before = len(delivered)
                await until(lambda before=before: len(delivered) > before + 50)
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
                assert 0 == await queue.count(State.ACTIVE)
            for task in producing:
                task.cancel()
            await asyncio.gather(*producing, return_exceptions=True)
            left = [record.id async for record in queue.iter(State.INCOMING)]
            assert len(set(delivered)) == len(delivered)
            assert set(accepted) <= {*delivered, *left}
            assert queue.counters.snapshot()["accepted"] == len(delivered) + len(left)

    asyncio.run(main())


def test_a_loop_that_ends_without_a_stop_ends_the_worker_and_gives_its_messages_back(open_queue: OpenQueue) -> None:
    queue = open_queue(concurrency=4)
    running = threading.Event()

    @queue.handler
    async def deliver(_message: Message, _payload: AsyncPayload) -> None:
        running.set()
        await asyncio.Event().wait()

    async def main() -> None:
        await queue
        await queue.enqueue_many([Outgoing(payload=b"") for _ in range(6)])
        await queue.start()
        await until(running.is_set)

    asyncio.run(main())
    until_s = time.monotonic() + PATIENCE_S
    while queue.sync.count(State.ACTIVE) and time.monotonic() < until_s:
        threading.Event().wait(0.005)

    assert not queue.running
    assert {(0, 0)} == {(record.deliveries, record.attempts) for record in queue.sync.iter(State.INCOMING)}
    assert 6 == queue.sync.count(State.INCOMING)
    asyncio.run(queue.close())
