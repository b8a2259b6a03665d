"""Handlers that are coroutines: they run in one loop, and come to the same ends as others."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from typing import BinaryIO

import pytest
from queues import PATIENCE_S, Gate, NewQueue, Recorder, wait_until

from retryspool import (
    AsyncPayload,
    Message,
    MessageMetadata,
    PermanentError,
    Queue,
    RetryableError,
    RouteOptions,
    Spool,
    State,
    current_message_id,
)
from retryspool.data import DataBackend
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.model import utc_now
from retryspool.queue import Outgoing
from retryspool.queue.handlers import Handlers
from retryspool.queue.loop import HandlerLoop
from retryspool.queue.message import Job
from retryspool.queue.observing import Observers
from retryspool.queue.outcome import Released
from retryspool.queue.runner import Ready, Runner
from retryspool.queue.worker import Worker


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("retryspool-")}


def fill(queue: Queue, count: int, payload: bytes = b"") -> None:
    queue.enqueue_many(Outgoing(payload=payload, message_id=f"m{number}") for number in range(count))


async def opened(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110 -- it's set in another thread
        await asyncio.sleep(0.005)


class Waiting:
    """A handler that stays in each message until opened, and then, or when cancelled, does as it's told."""

    def __init__(self, then: Callable[[], Awaitable[object]] | None = None) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self.cancelled: list[str] = []
        self.left: list[str] = []
        self.most = 0
        self._running = 0
        self._then = then

    async def __call__(self, message: Message, _payload: AsyncPayload) -> None:
        self._running += 1
        self.most = max(self.most, self._running)
        self.entered.release()
        try:
            await opened(self.opened)
        except asyncio.CancelledError:
            self.cancelled.append(message.id)
            if self._then is None:
                raise
            await self._then()
        finally:
            self._running -= 1
        self.left.append(message.id)

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE_S)


# -- what it's given, and where it runs --------------------------------------------------------------------------------


def test_a_coroutine_is_given_the_message_and_its_payload_in_a_loop(queue: Queue) -> None:
    given: list[object] = []

    @queue.handler
    async def deliver(message: Message, payload: AsyncPayload) -> None:
        await asyncio.sleep(0)
        given.extend([message.id, await payload.read(), await payload.read(), current_message_id()])
        given.append(threading.current_thread().name)
        message.headers["seen"] = "yes"
        raise RetryableError("later")

    queue.enqueue(b"hello", message_id="a", headers={"to": "x"})
    queue.run(until_idle=True)

    assert ["a", b"hello", b"", "a", "retryspool-loop"] == given
    assert {"to": "x", "seen": "yes"} == queue.get("a").headers
    assert set() == threads()
    assert current_message_id() is None


class _Object:
    def __init__(self) -> None:
        self.ids: list[str] = []

    def can_handle(self, message: Message) -> bool:
        return message.route == "mine"

    async def handle(self, message: Message, _payload: AsyncPayload) -> None:
        self.ids.append(message.id)


def test_coroutines_and_functions_share_the_messages_by_who_takes_them(queue: Queue) -> None:
    queue.add_handler(mine := _Object())
    queue.add_handler(rest := Recorder())
    for number in range(20):
        queue.enqueue(b"", message_id=f"m{number}", route="mine" if number % 2 else "other")

    queue.run(until_idle=True)

    assert ({f"m{number}" for number in range(1, 20, 2)}, 10) == (set(mine.ids), len(mine.ids))
    assert {f"m{number}" for number in range(0, 20, 2)} == set(rest.ids)


def test_a_partial_and_a_bounce_handler_may_be_coroutines(queue: Queue) -> None:
    bounced: list[str] = []

    async def fail(what: str, _message: Message, _payload: AsyncPayload) -> None:
        raise PermanentError(what)

    @queue.bounce_handler
    async def notify(message: Message, _payload: AsyncPayload) -> None:
        bounced.append(message.last_error)

    queue.add_handler(partial(fail, "gone"))
    queue.enqueue(b"")
    queue.run(until_idle=True)

    assert ["PermanentError: gone"] == bounced


def test_hundreds_wait_at_once_for_a_few_threads(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=400)
    queue.add_handler(handler := Waiting())
    fill(queue, 500)
    queue.start()
    handler.wait_for(400)

    assert 50 > len(threads())
    handler.opened.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 500)

    assert 400 == handler.most


def test_no_more_run_at_once_than_are_to_however_many_are_claimed(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=5)
    queue.add_handler(handler := Waiting())
    fill(queue, 20)
    queue.start()
    handler.wait_for(5)
    worker = queue._worker
    assert worker is not None
    claimed = queue.spool.meta.claim([State.INCOMING], limit=15, lease=timedelta(minutes=1), owner=worker.owner)
    worker._hand_out(claimed, time.monotonic())

    assert not handler.entered.acquire(timeout=0.1)
    handler.opened.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 20)

    assert 5 == handler.most


def with_two_ready(queue: Queue, waiting: Waiting) -> Worker:
    """Start a worker for four at once, and have it claim two more, as if handlers were quick."""
    queue.start()
    waiting.wait_for(4)
    worker = queue._worker
    assert worker is not None
    lease = timedelta(seconds=60)
    worker._hand_out(
        queue.spool.meta.claim([State.INCOMING], limit=2, lease=lease, owner=worker.owner), time.monotonic()
    )
    wait_until(lambda: len(worker._crew.loop._waiting) == 2)
    return worker


def test_what_is_ready_when_the_worker_stops_is_given_back_uncounted_while_others_run(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=4)
    queue.add_handler(waiting := Waiting())
    fill(queue, 10)
    worker = with_two_ready(queue, waiting)

    worker.begin_stop(PATIENCE_S)
    wait_until(lambda: queue.count(State.INCOMING) == 6)

    assert (4, {0}) == (
        queue.count(State.ACTIVE),
        {queue.get(each).deliveries for each in queue.list(State.INCOMING).message_ids},
    )
    waiting.opened.set()
    wait_until(lambda: not threads())
    assert (4, 4) == (waiting.most, queue.counters.snapshot()["delivered"])


def test_what_is_ready_does_not_begin_once_its_lease_is_lost(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=4)
    queue.add_handler(waiting := Waiting())
    fill(queue, 6)
    worker = with_two_ready(queue, waiting)
    worker._crew.loop._waiting[0].job.taken = True

    waiting.opened.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 5)
    wait_until(lambda: queue.counters.snapshot()["lost_leases"] == 1)

    assert 5 == len(waiting.left)


def test_a_destination_limits_coroutines_as_it_does_functions(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=50, routes={"narrow": RouteOptions(concurrency=3, initial_concurrency=3)})
    running = Counter[str]()
    most = Counter[str]()

    @queue.handler
    async def deliver(message: Message, _payload: AsyncPayload) -> None:
        running[message.route] += 1
        most[message.route] = max(most[message.route], running[message.route])
        await asyncio.sleep(0.01)
        running[message.route] -= 1

    for route in ("narrow", ""):
        queue.enqueue_many(Outgoing(payload=b"", route=route) for _ in range(60))
    queue.run(until_idle=True)

    assert 3 == most["narrow"]
    assert 3 < most[""] <= 50
    assert 120 == queue.counters.snapshot()["delivered"]


def test_a_function_that_is_added_later_has_as_many_threads_as_others(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=40)
    queue.add_handler(mine := _Object())
    queue.start()
    queue.add_handler(gate := Gate())
    fill(queue, 40)

    gate.wait_for(40)
    gate.opened.set()

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 40)
    assert [] == mine.ids


def test_a_coroutine_sees_nothing_of_the_context_in_which_the_queue_was_made(queue: Queue) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nothing")
    seen: list[str] = []

    @queue.handler
    async def deliver(message: Message, _payload: AsyncPayload) -> None:
        seen.append(variable.get())
        variable.set(message.id)
        await asyncio.sleep(0.01)
        assert message.id == variable.get() == current_message_id()

    variable.set("outside")
    fill(queue, 3)
    queue.run(until_idle=True)

    assert ["nothing"] * 3 == seen
    assert 3 == queue.counters.snapshot()["delivered"]


def test_a_coroutine_may_run_a_child_process(queue: Queue) -> None:
    codes: list[int] = []

    @queue.handler
    async def deliver(_message: Message, _payload: AsyncPayload) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
        codes.append(await process.wait())

    queue.enqueue(b"")
    queue.run(until_idle=True)

    assert [7] == codes


# -- what becomes of the message ---------------------------------------------------------------------------------------


def in_groups(*errors: Exception) -> Exception:
    return ExceptionGroup("outer", [ExceptionGroup("inner", errors[:1]), *errors[1:]])


AN_HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (PermanentError("gone"), State.BOUNCE, "PermanentError: gone"),
        (RetryableError("busy", after=AN_HOUR), State.DEFERRED, "RetryableError: busy"),
        (ValueError("odd"), State.DEFERRED, "ValueError: odd"),
        (asyncio.CancelledError("by itself"), State.DEFERRED, "CancelledError: by itself"),
        (SystemExit(3), State.DEFERRED, "SystemExit: 3"),
        (KeyboardInterrupt(), State.DEFERRED, "KeyboardInterrupt"),
        (GeneratorExit(), State.DEFERRED, "GeneratorExit"),
        (StopAsyncIteration("odd"), State.DEFERRED, "StopAsyncIteration: odd"),
        (in_groups(PermanentError("a"), PermanentError("b")), State.BOUNCE, "PermanentError: a"),
        (in_groups(PermanentError("a"), ValueError("b")), State.DEFERRED, "ValueError: b"),
        (in_groups(ValueError("b"), RetryableError("c", after=AN_HOUR)), State.DEFERRED, "RetryableError: c"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else "",
)
def test_an_error_of_a_coroutine_means_what_it_means_of_a_function(
    queue: Queue, error: BaseException, state: State, text: str
) -> None:
    class Async:
        def can_handle(self, message: Message) -> bool:
            return message.id == "async"

        async def handle(self, _message: Message, _payload: AsyncPayload) -> None:
            await asyncio.sleep(0)
            raise error

    def fail(_message: Message, _payload: BinaryIO) -> None:
        raise error

    queue.add_handler(Async())
    queue.add_handler(fail)
    for message_id in ("async", "function"):
        queue.enqueue(b"", message_id=message_id)

    queue.run(until_idle=True)

    for message_id in ("async", "function"):
        record = queue.get(message_id)
        assert (state, 1, text) == (record.state, record.attempts, record.last_error)
        if "after" in repr(getattr(error, "exceptions", error)) or getattr(error, "after", None):
            assert timedelta(minutes=59) < record.next_retry - utc_now() <= AN_HOUR


def test_the_first_error_of_a_task_group_counts(queue: Queue) -> None:
    @queue.handler
    async def deliver(_message: Message, _payload: AsyncPayload) -> None:
        async def refuse() -> None:
            raise PermanentError("no such account")

        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))
            group.create_task(refuse())

    queue.enqueue(b"", message_id="a")
    queue.run(until_idle=True)

    assert (State.BOUNCE, "PermanentError: no such account") == (queue.get("a").state, queue.get("a").last_error)


def test_a_coroutine_that_returns_what_nobody_awaits_has_failed(queue: Queue) -> None:
    class Later:
        def __await__(self) -> None: ...

    @queue.handler
    async def deliver(_message: Message, _payload: AsyncPayload) -> Later:
        return Later()

    queue.enqueue(b"", message_id="a")
    queue.run(until_idle=True)

    assert "which nobody awaits" in queue.get("a").last_error


# -- payloads ----------------------------------------------------------------------------------------------------------

LARGE = bytes(range(256)) * 4096
"""1 MiB."""


@pytest.mark.parametrize("content", [b"", b"small", LARGE], ids=["empty", "small", "large"])
def test_a_payload_comes_whole_in_pieces_and_in_chunks(queue: Queue, content: bytes) -> None:
    whole: list[bytes] = []

    @queue.handler
    async def deliver(message: Message, payload: AsyncPayload) -> None:
        if message.id == "whole":
            whole.append(await payload.read())
        elif message.id == "pieces":
            first = await payload.read(3)
            assert b"" == await payload.read(0)
            whole.append(first + await payload.read())
        else:
            whole.append(b"".join([chunk async for chunk in payload]))
        assert b"" == await payload.read(5)

    for message_id in ("whole", "pieces", "chunks"):
        queue.enqueue(content, message_id=message_id)
    queue.run(until_idle=True)

    assert [content] * 3 == whole


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_a_payload_is_closed_when_its_coroutine_has_ended(queue: Queue, content: bytes) -> None:
    payloads: list[AsyncPayload] = []

    @queue.handler
    async def deliver(_message: Message, payload: AsyncPayload) -> None:
        payloads.append(payload)

    queue.enqueue(content)
    queue.run(until_idle=True)

    with pytest.raises(ValueError, match="closed"):
        asyncio.run(payloads[0].read())


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("swallows", [True, False])
def test_a_damaged_payload_bounces_whatever_its_coroutine_makes_of_it(
    new_queue: NewQueue, content: bytes, *, swallows: bool
) -> None:
    data: DataBackend = MemoryData()
    queue = new_queue(spool=Spool(MemoryMeta(), data))

    @queue.handler
    async def deliver(_message: Message, payload: AsyncPayload) -> None:
        try:
            await payload.read()
        except OSError:
            if not swallows:
                raise

    queue.enqueue(content, message_id="a")
    data.store_data("a", content[::-1])
    queue.run(until_idle=True)

    assert State.BOUNCE is queue.get("a").state
    assert "CorruptDataError" in queue.get("a").last_error


class _Slow(BinaryIO):  # pyright: ignore[reportImplicitAbstractClass]
    """A file of which each read waits until it's let go on."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.let_go = threading.Semaphore(0)

    def read(self, size: int = -1, /) -> bytes:
        assert self.let_go.acquire(timeout=PATIENCE_S)
        size = len(self._content) if size < 0 else size
        chunk, self._content = self._content[:size], self._content[size:]
        return chunk

    def close(self) -> None:
        self._content = b"closed"


@pytest.mark.parametrize(("cut_off", "then"), [(4, 2), (2, 4), (4, -1), (-1, 3)])
def test_a_read_that_is_cancelled_loses_nothing(cut_off: int, then: int) -> None:
    async def main() -> None:
        slow = _Slow(b"0123456789")
        with ThreadPoolExecutor(2) as executor:
            payload = AsyncPayload(slow, executor)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(payload.read(cut_off), 0.02)
            slow.let_go.release(100)
            content = await payload.read(then)
            while chunk := await payload.read(then):
                content += chunk
            await payload.aclose()
            await payload.aclose()

        assert b"0123456789" == content
        assert b"closed" == slow._content

    asyncio.run(main())


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_a_stop_lets_coroutines_come_to_their_end(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=2)
    queue.add_handler(handler := Waiting())
    fill(queue, 6)
    queue.start()
    handler.wait_for(2)
    stopping = threading.Thread(target=queue.stop)
    stopping.start()
    wait_until(lambda: not queue.running)

    handler.opened.set()
    stopping.join(PATIENCE_S)

    assert (2, [], 4, 0) == (
        len(handler.left),
        handler.cancelled,
        queue.count(State.INCOMING),
        queue.count(State.ACTIVE),
    )
    assert {0} == {record.deliveries for record in queue.iter(State.INCOMING)}
    assert set() == threads()


def test_coroutines_that_outlast_the_grace_are_cancelled_and_their_messages_given_back_uncounted(
    new_queue: NewQueue,
) -> None:
    queue = new_queue(concurrency=50)
    queue.add_handler(handler := Waiting())
    fill(queue, 60)
    queue.start()
    handler.wait_for(50)

    queue.stop(0.05)

    assert 50 == len(handler.cancelled)
    assert 60 == queue.count(State.INCOMING)
    assert {(0, 0, "")} == {
        (record.deliveries, record.attempts, record.last_error) for record in queue.iter(State.INCOMING)
    }
    assert set() == threads()


async def _nothing() -> None: ...


async def _refuse() -> None:
    raise PermanentError("cut off in the middle")


@pytest.mark.parametrize(
    ("then", "left"),
    [(_nothing, {"delivered": 1, "bounced": 0}), (_refuse, {"delivered": 0, "bounced": 1})],
    ids=["returns", "raises"],
)
def test_a_cancelled_coroutine_that_settles_its_message_is_heard(
    new_queue: NewQueue, then: Callable[[], Awaitable[None]], left: dict[str, int]
) -> None:
    queue = new_queue()
    queue.add_handler(handler := Waiting(then))
    fill(queue, 1)
    queue.start()
    handler.wait_for(1)

    queue.stop(0)

    assert left == {name: queue.counters.snapshot()[name] for name in ("delivered", "bounced")}


def test_a_coroutine_that_will_not_end_keeps_its_lease_and_is_settled_when_it_does(
    new_queue: NewQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retryspool.queue.worker._CANCELLED_S", 0.05)
    queue = new_queue()
    released = threading.Event()

    queue.add_handler(handler := Waiting(lambda: opened(released)))
    fill(queue, 1)
    queue.start()
    handler.wait_for(1)

    queue.stop(0)
    assert (State.ACTIVE, ["m0"]) == (queue.get("m0").state, handler.cancelled)
    released.set()

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 1)
    wait_until(lambda: not threads())


def test_closing_forgets_a_coroutine_that_will_not_end(new_queue: NewQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retryspool.queue.worker._CANCELLED_S", 0.05)
    queue, heir = new_queue(grace_s=0), new_queue()
    released = threading.Event()

    queue.add_handler(handler := Waiting(lambda: opened(released)))
    fill(queue, 1)
    queue.start()
    handler.wait_for(1)

    queue.close()
    assert State.ACTIVE is heir.get("m0").state
    released.set()

    wait_until(lambda: not threads())
    assert 0 == queue.counters.snapshot()["delivered"]


def test_a_coroutine_may_stop_its_own_queue(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=1, grace_s=3600)

    @queue.handler
    async def deliver(_message: Message, _payload: AsyncPayload) -> None:
        queue.stop()

    fill(queue, 2)
    queue.run()

    wait_until(lambda: not threads())
    assert (1, 1) == (queue.counters.snapshot()["delivered"], queue.count(State.INCOMING))


def test_a_stop_under_load_loses_and_doubles_nothing(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=100)
    delivered: list[str] = []

    @queue.handler
    async def deliver(message: Message, _payload: AsyncPayload) -> None:
        await asyncio.sleep(0.01)
        delivered.append(message.id)

    fill(queue, 3000)
    for _ in range(5):
        before = len(delivered)
        queue.start()
        wait_until(lambda before=before: len(delivered) > before + 100)
        queue.stop(0)
        assert 0 == queue.count(State.ACTIVE)
        assert {0} == {record.deliveries for record in queue.iter(State.INCOMING)}
        assert 3000 == len(delivered) + queue.count(State.INCOMING)

    assert len(set(delivered)) == len(delivered)


def test_a_stopped_queue_starts_its_loop_again(queue: Queue) -> None:
    queue.add_handler(handler := Waiting())
    handler.opened.set()
    for number in range(3):
        queue.enqueue(b"")
        queue.run(until_idle=True)
        assert number + 1 == len(handler.left)
    assert set() == threads()


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_leases_are_renewed_while_coroutines_wait_and_while_one_holds_up_the_loop(new_queue: NewQueue) -> None:
    queue = new_queue(unchecked={"lease_s": 0.6})
    lost: list[bool] = []

    @queue.handler
    async def deliver(message: Message, _payload: AsyncPayload) -> None:
        if message.id == "blocks":
            time.sleep(1.0)  # noqa: ASYNC251 -- what one mustn't do is what this is about
        else:
            await asyncio.sleep(1.0)
        lost.append(message.lost)

    for message_id in ("blocks", "waits"):
        queue.enqueue(b"", message_id=message_id)
    queue.run(until_idle=True)

    assert [False, False] == lost
    assert (2, 2, 0) == tuple(queue.counters.snapshot()[name] for name in ("claimed", "delivered", "lost_leases"))


def test_a_coroutine_that_blocks_holds_up_no_function(queue: Queue) -> None:
    blocked, go_on = threading.Event(), threading.Event()

    class Blocking(_Object):
        async def handle(self, message: Message, _payload: AsyncPayload) -> None:
            self.ids.append(message.id)
            blocked.set()
            assert go_on.wait(PATIENCE_S)

    queue.add_handler(Blocking())
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"", route="mine")
    queue.start()
    assert blocked.wait(PATIENCE_S)

    queue.enqueue(b"")
    recorder.wait_for(1)
    go_on.set()

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 2)


def test_a_worker_whose_loop_is_stopped_ends_and_gives_back_its_messages(queue: Queue) -> None:
    stops = True

    @queue.handler
    async def deliver(message: Message, _payload: AsyncPayload) -> None:
        if stops and message.id == "m0":
            asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)

    fill(queue, 20)
    queue.run()

    stops = False
    wait_until(lambda: not threads())
    assert 0 == queue.count(State.ACTIVE)
    assert 1 <= queue.count(State.INCOMING)
    queue.run(until_idle=True)
    assert 20 == queue.counters.snapshot()["delivered"]


def test_what_comes_to_a_loop_that_is_closed_is_given_back() -> None:
    closed = asyncio.new_event_loop()
    closed.close()
    finished: list[object] = []
    runner = Runner(Spool(MemoryMeta(), MemoryData()), Handlers(), Observers())
    loop = HandlerLoop(
        runner,
        1,
        closed,
        refuse=lambda _: None,
        is_stopping=lambda: False,
        finish=lambda ready: finished.append(ready.job.outcome),
        lost=print,
    )
    job = Job(MessageMetadata("a"), expires=1e12)

    loop.submit(Ready(job, Message(job), AsyncPayload(io.BytesIO(), None), Waiting()))

    assert [Released()] == finished


_FORKING = """
import asyncio, os
from retryspool import Queue

queue = Queue.open(meta="memory:", data="memory:", concurrency=4)
pids = []

@queue.handler
async def deliver(message, payload):
    await asyncio.sleep(0.01)
    if message.headers:
        pids.append(os.fork())
    await asyncio.sleep(0.01)

for number in range(100):
    queue.enqueue(b"", headers={"fork": "yes"} if number % 40 == 5 else {})
queue.run(until_idle=True)
assert [0, 0, 0] == [os.waitpid(pid, 0)[1] for pid in pids]
assert 100 == queue.counters.snapshot()["delivered"]
print("as it should be")
"""


def test_the_child_of_a_coroutine_that_forks_ends_with_it_and_leaves_the_parent_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_FORKING)], capture_output=True, text=True, timeout=50, check=False
    )

    assert ("as it should be\n", "") == (done.stdout, done.stderr)
