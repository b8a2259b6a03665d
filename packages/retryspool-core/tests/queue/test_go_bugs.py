"""The fifteen bugs that were found in the core of the Go system this follows, none of which is to come back.

The numbers are those of the list by which they were found.
"""

from __future__ import annotations

import io
import re
import threading
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
from queues import Gate, NewQueue, Recorder, wait_until

import retryspool
from retryspool import (
    BackendError,
    FixedRetry,
    Message,
    MessageExistsError,
    MessageMetadata,
    PermanentError,
    Queue,
    QueueOptions,
    ScheduledRetry,
    Spool,
    State,
    current_message_id,
)
from retryspool.errors import __all__ as errors
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.middleware import Middleware

SOURCES = Path(retryspool.__file__).parent


def test_01_a_second_node_does_not_steal_the_work_of_the_first(new_queue: NewQueue) -> None:
    first, second = new_queue(), new_queue()
    first.add_handler(gate := Gate())
    second.add_handler(thief := Recorder())
    first.enqueue(b"", message_id="a")
    first.start()
    gate.wait_for(1)

    second.run(until_idle=True)

    assert [] == thief.ids
    gate.opened.set()
    wait_until(lambda: first.counters.snapshot()["delivered"] == 1)


def test_01_deferred_messages_that_are_due_at_the_start_are_delivered(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(recorder := Recorder())
    queue.spool.enqueue(MessageMetadata(id="due", state=State.DEFERRED), b"", is_new=True)
    later = datetime.now(UTC) + timedelta(hours=1)
    queue.spool.enqueue(MessageMetadata(id="later", state=State.DEFERRED, next_retry=later), b"", is_new=True)

    queue.run(until_idle=True)

    assert (["due"], State.DEFERRED) == (recorder.ids, queue.get("later").state)


def test_02_recovery_does_not_end_at_ten_thousand_messages(new_queue: NewQueue) -> None:
    count = 10_500
    queue = new_queue(batch_size=1000)
    queue.add_handler(recorder := Recorder())
    for number in range(count):
        queue.spool.enqueue(MessageMetadata(id=str(number), state=State.ACTIVE), b"", is_new=True)

    queue.run(until_idle=True)

    assert (count, count) == (len(recorder.ids), len(set(recorder.ids)))


def test_03_enqueuing_an_id_again_touches_neither_body_nor_record_of_the_first(queue: Queue) -> None:
    first = queue.enqueue(b"first", message_id="a")

    for _ in range(2):
        with pytest.raises(MessageExistsError):
            queue.enqueue(b"second", message_id="a")

    assert (first, b"first") == (queue.get("a"), queue.open_payload("a").read())


def test_04_a_message_enqueued_by_a_handler_does_not_overwrite_the_one_in_flight(queue: Queue) -> None:
    bodies: dict[str, bytes] = {}

    @queue.handler
    def deliver(message: Message, payload: BinaryIO) -> None:
        if message.id == "original":
            assert "original" == current_message_id()
            queue.enqueue(b"notice")
            with queue.begin_enqueue() as tx:
                tx.write(b"streamed notice")
        bodies[message.id] = payload.read()

    queue.enqueue(b"body", message_id="original")
    queue.run(until_idle=True)

    assert b"body" == bodies.pop("original")
    assert [b"notice", b"streamed notice"] == sorted(bodies.values())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("headers", "argument", "priority"),
    [
        ({"priority": "1"}, None, 1),
        ({"priority": "1"}, 9, 9),
        ({"priority": "100"}, None, 100),
        ({"priority": "high"}, None, 5),
        ({"priority": "101"}, None, 5),
        ({"priority": "-1"}, None, 5),
        ({}, None, 5),
    ],
    ids=["header", "argument", "lowest", "word", "too-large", "negative", "none"],
)
def test_05_a_priority_is_taken_alike_however_a_message_is_enqueued(
    queue: Queue, headers: dict[str, str], argument: int | None, priority: int, *, streamed: bool
) -> None:
    if streamed:
        with queue.begin_enqueue(headers=headers, priority=argument) as tx:
            pass
        record = tx.record
    else:
        record = queue.enqueue(b"", headers=headers, priority=argument)

    assert priority == record.priority


def test_05_the_worker_goes_by_priority(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=1, batch_size=1)
    queue.add_handler(recorder := Recorder())
    for name, priority in (("last", "9"), ("first", "1"), ("second", "5")):
        queue.enqueue(b"", message_id=name, headers={"priority": priority})

    queue.run(until_idle=True)

    assert ["first", "second", "last"] == recorder.ids


def test_06_an_ordinary_exception_is_retried_by_policy_and_does_not_bounce(new_queue: NewQueue) -> None:
    queue = new_queue(policies={"hour": FixedRetry(3600)}, retry_policy="hour")
    queue.add_handler(Recorder(then=lambda _: {}["missing"]))
    queue.enqueue(b"", message_id="a")

    queue.run(until_idle=True)

    after = queue.get("a")
    assert (State.DEFERRED, 1, "KeyError: 'missing'") == (after.state, after.attempts, after.last_error)


def test_07_a_bounced_message_is_not_delivered_again_after_a_restart(new_queue: NewQueue) -> None:
    deliveries, bounces = Recorder(then=_raise(PermanentError("gone"))), Recorder()
    for _ in range(2):
        queue = new_queue()
        queue.add_handler(deliveries)
        queue.enqueue(b"", message_id="a", if_exists="skip")
        queue.run(until_idle=True)
        queue.close()
    queue = new_queue()
    queue.add_handler(deliveries)
    queue.add_bounce_handler(bounces)
    queue.run(until_idle=True)

    assert (["a"], ["a"]) == (deliveries.ids, bounces.ids)


def test_07_a_bounced_message_goes_to_bounce_handlers_even_after_their_worker_died(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(deliveries := Recorder())
    queue.add_bounce_handler(bounces := Recorder())
    queue.enqueue(b"", message_id="a")
    queue.bounce("a", "enough")
    queue.spool.meta.claim([State.BOUNCE], limit=1, lease=timedelta(microseconds=1), owner="killed")

    queue.run(until_idle=True)

    assert ([], ["a"]) == (deliveries.ids, bounces.ids)
    assert (State.BOUNCE, 2) == (bounces.messages[0].claimed_from, bounces.messages[0].deliveries)


def test_07_a_worker_without_bounce_handlers_leaves_them_to_one_that_has_some(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(deliveries := Recorder())
    queue.enqueue(b"", message_id="a")
    queue.bounce("a")
    queue.spool.meta.claim([State.BOUNCE], limit=1, lease=timedelta(microseconds=1), owner="killed")

    queue.run(until_idle=True)

    assert ([], State.ACTIVE) == (deliveries.ids, queue.get("a").state)


@pytest.mark.parametrize("error", [BackendError("no disk"), OSError("no disk")], ids=["backend", "os"])
@pytest.mark.parametrize("at", ["open", "read"])
def test_08_a_message_whose_payload_cannot_be_read_is_deferred(new_queue: NewQueue, at: str, error: Exception) -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise error

    class BrokenData(MemoryData):
        def get_data_reader(self, message_id: str) -> BinaryIO:
            super().get_data_reader(message_id).close()
            if at == "open":
                raise error
            return Broken()

    queue = new_queue(spool=Spool(MemoryMeta(), BrokenData()))
    queue.add_handler(Recorder())
    stored = queue.enqueue(b"x")

    queue.run(until_idle=True)

    after = queue.get(stored.id)
    assert (State.DEFERRED, 0 if at == "open" else 1) == (after.state, after.attempts)
    assert "no disk" in after.last_error
    assert after.next_retry > datetime.now(UTC)


class _Hostile(BaseException):
    """What isn't even an `Exception`."""


@pytest.mark.parametrize(
    "error", [RecursionError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), _Hostile("boo")], ids=repr
)
def test_09_whatever_a_handler_raises_is_a_failure_and_the_worker_goes_on(
    new_queue: NewQueue, error: BaseException
) -> None:
    queue = new_queue(concurrency=1)
    recorder = Recorder(then=lambda message: _raise(error)(message) if message.id == "bad" else None)
    queue.add_handler(recorder)
    queue.enqueue(b"", message_id="bad", priority=0)
    queue.enqueue(b"", message_id="good")

    queue.run(until_idle=True)

    assert ["bad", "good"] == recorder.ids
    after = queue.get("bad")
    assert (State.DEFERRED, 1) == (after.state, after.attempts)
    assert after.last_error.startswith(type(error).__name__)


def test_10_stopping_leaves_nothing_active(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=2)
    queue.add_handler(Recorder())
    for _ in range(3000):
        queue.enqueue(b"")
    queue.start()
    wait_until(lambda: queue.counters.snapshot()["delivered"] > 100)

    queue.stop()

    assert 0 == queue.count(State.ACTIVE)
    counted = queue.counters.snapshot()
    assert (3000, 0) == (counted["delivered"] + queue.count(State.INCOMING), counted["lost_leases"])
    assert {0} >= {record.deliveries for record in queue.iter(State.INCOMING)}


class _FailsAtClose(Middleware):
    name = "fails-at-close"

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- it fails for each
        class Sink(io.BytesIO):
            def write(self, data: bytes, /) -> int:  # type: ignore[override]
                return sink.write(data)

            def close(self) -> None:
                if not self.closed:
                    super().close()
                    raise OSError("the last block can't be written")

        return Sink()

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- never read
        return source


class _Zlib(Middleware):
    name = "zlib"

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- the same for each
        class Sink(io.BytesIO):
            def close(self) -> None:
                if not self.closed:
                    sink.write(zlib.compress(self.getvalue()))
                    super().close()

        return Sink()

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- the same for each
        with source:
            return io.BytesIO(zlib.decompress(source.read()))


def test_11_what_middleware_fails_to_finish_is_not_stored_as_if_it_were_whole(new_queue: NewQueue) -> None:
    queue = new_queue(spool=Spool(MemoryMeta(), MemoryData(), middleware=[_FailsAtClose()]))

    with pytest.raises(OSError, match="last block"):
        queue.enqueue(b"body")
    with pytest.raises(OSError, match="last block"), queue.begin_enqueue() as tx:
        tx.write(b"body")

    assert 0 == sum(queue.counts().values())
    assert [] == list(queue.spool.data.iter_data())


def test_12_the_size_is_that_of_what_was_handed_in(new_queue: NewQueue) -> None:
    queue = new_queue(spool=Spool(MemoryMeta(), MemoryData(), middleware=[_Zlib()]))
    queue.add_handler(recorder := Recorder())
    body = b"x" * 10_000

    whole = queue.enqueue(body)
    with queue.begin_enqueue() as tx:
        tx.write(body)
    queue.run(until_idle=True)

    assert {10_000} == {whole.size, tx.record.size, *(message.size for message in recorder.messages)}
    assert {body} == {content for _, content in recorder.given}


def test_13_deferred_messages_are_not_scanned_and_come_in_the_order_in_which_they_are_due(new_queue: NewQueue) -> None:
    class Watched(MemoryMeta):
        claims = 0

        def claim(self, *args: object, **kwargs: object) -> list[MessageMetadata]:
            self.claims += 1
            return super().claim(*args, **kwargs)  # type: ignore[arg-type]

    meta = Watched()
    queue = new_queue(spool=Spool(meta, MemoryData()), concurrency=1, batch_size=1)
    queue.add_handler(recorder := Recorder())
    now = datetime.now(UTC)
    for number, minutes in enumerate([-1, -3, -2, 60]):  # not the order of creation
        record = MessageMetadata(
            id=f"m{number}", state=State.DEFERRED, next_retry=now + timedelta(minutes=minutes), attempts=1
        )
        queue.spool.enqueue(record, b"", is_new=True)
    with queue:
        recorder.wait_for(3)
        wait_until(lambda: queue.counters.snapshot()["delivered"] == 3)
        before = meta.claims
        threading.Event().wait(0.5)
        after = meta.claims

    assert ["m1", "m2", "m0"] == recorder.ids
    assert after - before <= 3  # where a scan each 10 ms would have been 50


def test_14_every_option_and_every_error_is_used() -> None:
    sources = {path: path.read_text() for path in SOURCES.rglob("*.py")}
    elsewhere = "".join(text for path, text in sources.items() if path.name not in {"errors.py", "options.py"})

    unused = [name for name in QueueOptions.__dataclass_fields__ if not re.search(rf"options\.{name}\b", elsewhere)]
    assert [] == unused
    for_backends = {"NotSupportedError"}  # what a backend answers that can't do something; ours can do all
    groups = {"HandlerError", "RetrySpoolError"}
    named = {name for name in errors if name.endswith("Error")}
    assert [] == sorted(name for name in named - for_backends - groups if not re.search(rf"\b{name}\b", elsewhere))


def test_15_the_first_failure_waits_for_the_first_interval(new_queue: NewQueue) -> None:
    policy = ScheduledRetry((600, 6000), jitter=0)
    queue = new_queue(policies={"two": policy}, retry_policy="two")
    queue.add_handler(Recorder(then=_raise(ValueError())))
    queue.enqueue(b"", message_id="a")
    delays: list[int] = []
    for _ in range(3):
        queue.run(until_idle=True)
        delays.append(round((queue.get("a").next_retry - datetime.now(UTC)) / timedelta(minutes=1)))
        queue.retry("a")

    assert [10, 100, 100] == delays


def test_15_messages_that_failed_together_do_not_come_back_together(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(Recorder(then=_raise(ValueError())))
    for _ in range(30):
        queue.enqueue(b"")

    queue.run(until_idle=True)

    due = sorted(record.next_retry for record in queue.iter(State.DEFERRED))
    assert 30 == len(due)
    assert due[-1] - due[0] > timedelta(minutes=1)  # of 15 minutes ± 10 %


def _raise(error: BaseException) -> Callable[[Message], None]:
    def then(_message: Message) -> None:
        raise error

    return then
