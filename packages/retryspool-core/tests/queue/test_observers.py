from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, BinaryIO

import pytest
from queues import NewQueue, wait_until

from retryspool import (
    BackendClosedError,
    BackendUnavailableError,
    InvalidInputError,
    Message,
    MessageExistsError,
    MessageMetadata,
    Observer,
    Outgoing,
    PermanentError,
    Queue,
    State,
    aio,
)
from retryspool.queue import AsyncPayload, Settled, Submission

around: ContextVar[str] = ContextVar("around", default="")


class Diary(Observer):
    """Writes down all that it's told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.settlements: list[Settled] = []
        self.threads: list[str] = []

    @contextmanager
    def accepting(self, messages: Sequence[Submission]) -> Iterator[None]:
        for message in messages:
            message.headers["trace"] = f"of {message.record.route}"
        self.lines.append(f"accepting {len(messages)}")
        try:
            yield
        except BaseException as error:
            self.lines.append(f"not accepted: {type(error).__name__}")
            raise
        refused = [type(message.error).__name__ for message in messages if message.error]
        self.lines.append(f"stored, refused {refused}")

    def accepted(self, record: MessageMetadata) -> None:
        self.lines.append(f"accepted {record.id}")

    def claimed(self, records: Sequence[MessageMetadata]) -> None:
        self.lines += [f"claimed {record.id}" for record in records]

    @contextmanager
    def attempt(self, message: Message) -> Iterator[None]:
        token = around.set(f"attempt at {message.id}")
        self.threads.append(threading.current_thread().name)
        self.lines.append(f"begun {message.id} {message.headers}")
        try:
            yield
        except BaseException as error:
            self.lines.append(f"failed {message.id} {error!r}")
            raise
        else:
            self.lines.append(f"ended {message.id}")
        finally:
            around.reset(token)

    def settled(self, settled: Settled) -> None:
        self.settlements.append(settled)
        self.lines.append(f"{settled.outcome} {settled.record.id}")

    def lost(self, record: MessageMetadata) -> None:
        self.lines.append(f"lost {record.id}")


@pytest.fixture
def diary(queue: Queue) -> Diary:
    diary = Diary()
    queue.add_observer(diary)
    return diary


def test_an_observer_is_told_of_each_step_in_order(queue: Queue, diary: Diary) -> None:
    queue.add_handler(lambda _message, _payload: None)
    queue.enqueue(b"1", message_id="m1", route="here")
    queue.run(until_idle=True)

    assert [
        "accepting 1",
        "accepted m1",
        "stored, refused []",
        "claimed m1",
        "begun m1 {'trace': 'of here'}",
        "ended m1",
        "delivered m1",
    ] == diary.lines


def test_what_became_of_a_message_is_told_with_the_reason(queue: Queue, diary: Diary) -> None:
    def deliver(message: Message, _payload: BinaryIO) -> None:
        if message.attempts == 0:
            raise ValueError("not yet")
        raise PermanentError("never")

    queue.add_handler(deliver)
    queue.enqueue(b"", message_id="m", retry_policy="exponential")
    queue.run(until_idle=True)
    queue.retry("m")
    queue.run(until_idle=True)

    first, second = diary.settlements
    assert ("deferred", "ValueError: not yet") == (first.outcome, first.error)
    assert first.became is not None
    assert (State.DEFERRED, 1) == (first.became.state, first.became.attempts)
    assert (1, State.INCOMING) == (first.record.deliveries, first.record.claimed_from)
    assert ("bounced", "PermanentError: never") == (second.outcome, second.error)
    assert second.became is not None
    assert State.BOUNCE is second.became.state
    assert "failed m ValueError('not yet')" in diary.lines


def test_of_a_deleted_message_nothing_is_left_but_its_record_is_told(queue: Queue, diary: Diary) -> None:
    queue.add_handler(lambda _message, _payload: None)
    queue.enqueue(b"", message_id="m")
    queue.run(until_idle=True)

    (settled,) = diary.settlements
    assert (None, "m", "") == (settled.became, settled.record.id, settled.error)
    assert settled.seconds > 0


def test_a_bounce_whose_handler_fails_for_good_is_kept(queue: Queue, diary: Diary) -> None:
    def fail(_message: Message, _payload: BinaryIO) -> None:
        raise PermanentError("no")

    queue.add_bounce_handler(fail)
    queue.enqueue(b"", message_id="m")
    queue.bounce("m")
    queue.run(until_idle=True)

    assert [("kept", "PermanentError: no")] == [(each.outcome, each.error) for each in diary.settlements]


def test_an_attempt_surrounds_the_handler_in_its_own_thread_and_context(queue: Queue, diary: Diary) -> None:
    seen: list[tuple[str, str]] = []
    queue.add_handler(lambda _message, _payload: seen.append((around.get(), threading.current_thread().name)))
    queue.enqueue(b"", message_id="m")
    queue.run(until_idle=True)

    assert [("attempt at m", diary.threads[0])] == seen


def test_an_attempt_surrounds_a_coroutine_until_it_has_ended(queue: Queue, diary: Diary) -> None:
    seen: dict[str, str] = {}
    both = threading.Barrier(2)

    @queue.handler
    async def deliver(message: Message, _payload: AsyncPayload) -> None:
        await asyncio.to_thread(both.wait, 20)
        seen[message.id] = around.get()

    queue.enqueue(b"", message_id="m1")
    queue.enqueue(b"", message_id="m2")
    queue.run(until_idle=True)

    assert {"m1": "attempt at m1", "m2": "attempt at m2"} == seen
    assert {"ended m1", "ended m2"} < set(diary.lines)


def test_what_an_observer_adds_to_the_headers_is_stored(queue: Queue, diary: Diary) -> None:
    one = queue.enqueue(b"1", route="a", headers={"to": "you"})
    with queue.begin_enqueue(route="b") as writer:
        writer.write(b"2")
    many = queue.enqueue_many([Outgoing(payload=b"3", route="c"), Outgoing(payload=b"4", route="d", message_id="d")])

    records = [one, writer.record, *(each for each in many if isinstance(each, MessageMetadata))]
    assert [{"to": "you", "trace": "of a"}, *({"trace": f"of {route}"} for route in "bcd")] == [
        dict(queue.get(record.id).headers) for record in records
    ]
    assert records[0].headers == queue.get(records[0].id).headers
    assert ["accepting 1", "accepting 1", "accepting 2"] == [line for line in diary.lines if "accepting" in line]
    assert 4 == sum(line.startswith("accepted") for line in diary.lines)


def test_an_observer_is_told_of_what_was_not_accepted(queue: Queue, diary: Diary) -> None:
    queue.enqueue(b"", message_id="m")
    diary.lines.clear()

    with pytest.raises(MessageExistsError):
        queue.enqueue(b"", message_id="m")
    queue.enqueue(b"", message_id="m", if_exists="skip")
    queue.enqueue_many([Outgoing(payload=b"", message_id="m"), Outgoing(payload=b"", message_id="n")])

    assert [
        *("accepting 1", "not accepted: MessageExistsError"),
        *("accepting 1", "stored, refused []"),
        *("accepting 2", "accepted n", "stored, refused ['MessageExistsError']"),
    ] == diary.lines


def test_a_result_that_comes_too_late_is_told_as_lost(new_queue: NewQueue) -> None:
    late, other = new_queue(unchecked={"lease_s": 0.3}), new_queue()
    diary = Diary()
    late.add_observer(diary)
    go = threading.Event()
    entered = threading.Event()

    @late.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        other.delete(message.id, force=True)
        entered.set()
        go.wait(20)

    late.enqueue(b"", message_id="m")
    late.start()
    assert entered.wait(20)
    go.set()
    wait_until(lambda: "lost m" in diary.lines)

    assert [] == diary.settlements


class Unruly(Observer):
    """Raises whatever it is told, wherever it can."""

    def __init__(self, error: type[BaseException], where: str) -> None:
        self._error = error
        self._where = where
        self.calls = 0

    def _raise(self, where: str) -> None:
        if where == self._where:
            self.calls += 1
            raise self._error(where)

    @contextmanager
    def _surround(self, where: str) -> Iterator[None]:
        self._raise(f"{where} begins")
        yield
        self._raise(f"{where} ends")

    def accepting(self, messages: Sequence[Submission]) -> AbstractContextManager[object]:
        self._raise("accepting")
        if self._where == "bad header":
            self.calls += 1
            messages[0].headers["x"] = "\0"
        return self._surround("accepting")

    def accepted(self, record: MessageMetadata) -> None:
        del record
        self._raise("accepted")

    def claimed(self, records: Sequence[MessageMetadata]) -> None:
        del records
        self._raise("claimed")

    def attempt(self, message: Message) -> AbstractContextManager[object]:
        del message
        self._raise("attempt")
        return self._surround("attempt")

    def settled(self, settled: Settled) -> None:
        del settled
        self._raise("settled")


@pytest.mark.parametrize(
    "where",
    [
        *("accepting", "accepting begins", "accepting ends", "bad header", "accepted"),
        *("claimed", "attempt", "attempt begins", "attempt ends", "settled"),
    ],
)
def test_an_observer_that_raises_disturbs_nothing_and_is_logged_once(
    where: str, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    unruly, diary = Unruly(ValueError, where), Diary()
    queue.add_observer(unruly)
    queue.add_observer(diary)
    queue.add_handler(lambda _message, _payload: None)

    with caplog.at_level(logging.ERROR):
        for number in range(3):
            queue.enqueue(b"", message_id=f"m{number}")
            queue.run(until_idle=True)

    assert 3 == unruly.calls
    assert ["delivered"] * 3 == [each.outcome for each in diary.settlements]
    assert 3 == sum("ended" in line for line in diary.lines)
    assert 3 == sum("{'trace': 'of '}" in line for line in diary.lines)
    assert 1 == len([record for record in caplog.records if "Unruly" in record.getMessage()])
    assert 0 == sum(queue.counts().values())


@pytest.mark.parametrize("where", ["claimed", "attempt begins", "attempt ends", "settled"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_not_even_an_exit_of_an_observers_ends_the_worker(where: str, error: type[BaseException], queue: Queue) -> None:
    queue.add_observer(Unruly(error, where))
    queue.add_handler(lambda _message, _payload: None)
    for _ in range(3):
        queue.enqueue(b"")
    queue.run(until_idle=True)

    assert 3 == queue.counters.snapshot()["delivered"]


def test_ctrl_c_goes_through_an_observer_to_who_enqueues(queue: Queue) -> None:
    queue.add_observer(Unruly(KeyboardInterrupt, "accepting begins"))

    with pytest.raises(KeyboardInterrupt):
        queue.enqueue(b"")

    assert 0 == sum(queue.counts().values())


def test_an_observer_cannot_swallow_what_a_handler_raises(queue: Queue, diary: Diary) -> None:
    class Swallower(Observer):
        @contextmanager
        def attempt(self, message: Message) -> Iterator[None]:
            del message
            with suppress(PermanentError):
                yield

    def fail(_message: Message, _payload: BinaryIO) -> None:
        raise PermanentError("no")

    queue.add_observer(Swallower())
    queue.add_handler(fail)
    queue.enqueue(b"")
    queue.run(until_idle=True)

    assert ["bounced"] == [each.outcome for each in diary.settlements]


def test_an_observer_that_does_nothing_is_one_too(queue: Queue) -> None:
    queue.add_observer(Observer())
    queue.add_handler(lambda _message, _payload: None)
    queue.enqueue(b"", not_before=timedelta(0))
    queue.run(until_idle=True)

    assert 1 == queue.counters.snapshot()["delivered"]


@pytest.mark.parametrize("wrong", [Diary, lambda: None, None])
def test_what_is_no_observer_is_refused(wrong: Callable[..., object] | None, queue: Queue) -> None:
    with pytest.raises(InvalidInputError, match="is not an observer"):
        queue.add_observer(wrong)  # type: ignore[arg-type]


def test_a_worker_that_cannot_claim_is_stalled_until_it_can(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    is_down = threading.Event()
    claim = queue.spool.meta.claim

    def claim_or_fail(*args: Any, **kwargs: Any) -> list[MessageMetadata]:
        if is_down.is_set():
            raise BackendUnavailableError("down", outcome="none")
        return claim(*args, **kwargs)

    is_down.set()
    monkeypatch.setattr(queue.spool.meta, "claim", claim_or_fail)
    queue.add_handler(lambda _message, _payload: None)
    assert 0 == queue.stalled_s
    queue.start()
    wait_until(lambda: queue.stalled_s > 0.05)
    is_down.clear()
    wait_until(lambda: queue.stalled_s == 0)


class Resident(Observer):
    """Looks at its queue from its first moment there to its last."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def added(self, queue: Queue) -> None:
        self.queue = queue
        self.seen.append(f"added, {sum(queue.counts().values())} there")

    def closing(self) -> None:
        self.seen.append(f"closing, {sum(self.queue.counts().values())} there, running: {self.queue.running}")


def test_an_observer_is_told_its_queue_and_of_the_end_while_the_stores_are_open(queue: Queue) -> None:
    resident = Resident()
    queue.add_handler(lambda _message, _payload: None)
    queue.start()
    queue.add_observer(resident)
    queue.enqueue(b"", not_before=timedelta(hours=1))

    queue.close()
    queue.close()

    assert queue is resident.queue
    assert ["added, 0 there", "closing, 1 there, running: False"] == resident.seen


def test_an_observer_of_an_asynchronous_queue_is_told_the_synchronous_one_once() -> None:
    resident = Resident()

    async def main() -> None:
        queue = aio.Queue.open(meta="memory:", data="memory:")
        queue.add_observer(resident)
        async with queue:
            assert queue.sync is resident.queue
            await queue.enqueue(b"")

    asyncio.run(main())

    assert ["added, 0 there", "closing, 1 there, running: False"] == resident.seen


def test_an_observer_that_fails_at_the_end_keeps_no_queue_open(
    queue: Queue, diary: Diary, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy(Observer):
        def closing(self) -> None:
            raise ValueError("closing")

    queue.add_observer(Clumsy())

    queue.close()

    assert ["Clumsy"] == [name for name in ("Clumsy", "Diary") if name in caplog.text]
    with pytest.raises(BackendClosedError):
        queue.counts()
    assert [] == diary.lines
