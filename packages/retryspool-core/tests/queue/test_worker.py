"""What a worker does with messages, from claim to settlement."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import pytest
from minimal_backends import MinimalDataFactory, MinimalMetaFactory
from queues import PATIENCE_S, Gate, NewQueue, Recorder, wait_until

from retryspool import (
    BackendError,
    FixedRetry,
    Message,
    MessageMetadata,
    MessageNotFoundError,
    PermanentError,
    Queue,
    QueueError,
    RetryableError,
    Spool,
    State,
)
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.meta import Write, WriteResult
from retryspool.queue.handlers import Handle
from retryspool.queue.losses import begun_alone

DUE = datetime.min.replace(tzinfo=UTC)


def retrying(**policies: float) -> dict[str, FixedRetry]:
    return {name: FixedRetry(interval_s, jitter=0) for name, interval_s in policies.items()}


class CountingMeta(MemoryMeta):
    """Records in memory, with a note of what a worker asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[tuple[list[State], int, int]] = []
        self.batches: list[int] = []

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        claimed = super().claim(
            sources,
            limit=limit,
            lease=lease,
            owner=owner,
            exclude_routes=exclude_routes,
            oldest_first=oldest_first,
        )
        self.claims.append((list(sources), limit, len(claimed)))
        return claimed

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        self.batches.append(len(writes))
        return super().apply(writes)


def test_a_handled_message_is_gone_with_its_payload(queue: Queue) -> None:
    queue.add_handler(recorder := Recorder())
    stored = queue.enqueue(b"hello")

    queue.run(until_idle=True)

    assert [(stored.id, b"hello")] == recorder.given
    with pytest.raises(MessageNotFoundError):
        queue.get(stored.id)
    assert [] == list(queue.spool.data.iter_data())
    assert 1 == queue.counters.snapshot()["delivered"]


def test_a_handled_message_is_archived_if_so_wished(new_queue: NewQueue) -> None:
    queue = new_queue(on_success="archive")
    queue.add_handler(Recorder())
    stored = queue.enqueue(b"hello")

    queue.run(until_idle=True)

    assert State.ARCHIVED is queue.get(stored.id).state
    assert b"hello" == queue.open_payload(stored.id).read()
    assert (1, 1) == (queue.counters.snapshot()["delivered"], queue.counters.snapshot()["archived"])


def test_each_message_is_delivered_once_by_many_workers(new_queue: NewQueue) -> None:
    producer = new_queue()
    ids = [producer.enqueue(b"x").id for _ in range(2000)]
    recorders = [Recorder() for _ in range(4)]
    queues = [new_queue(concurrency=4) for _ in recorders]
    for queue, recorder in zip(queues, recorders, strict=True):
        queue.add_handler(recorder)
        queue.start()

    wait_until(lambda: producer.count(State.INCOMING) + producer.count(State.ACTIVE) == 0)

    assert Counter(ids) == Counter(each for recorder in recorders for each in recorder.ids)


def test_a_queue_works_on_backends_that_have_nothing_but_the_least(new_queue: NewQueue) -> None:
    queue = new_queue(spool=Spool(MinimalMetaFactory().create(), MinimalDataFactory().create()))
    queue.add_handler(recorder := Recorder())
    ids = [queue.enqueue(str(number).encode()).id for number in range(30)]

    with queue:
        recorder.wait_for(30)
        wait_until(lambda: sum(queue.counts().values()) == 0)

    assert sorted(ids) == sorted(recorder.ids)


def test_a_failure_is_retried_when_its_delay_is_over(new_queue: NewQueue) -> None:
    queue = new_queue(policies=retrying(soon=0.05), retry_policy="soon")
    attempts: list[tuple[int, int, State, str]] = []

    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        attempts.append((message.attempts, message.deliveries, message.claimed_from, message.last_error))
        if message.attempts < 2:
            raise ValueError(f"try {message.attempts}")

    queue.enqueue(b"")
    with queue:
        wait_until(lambda: queue.counters.snapshot()["delivered"] == 1)

    assert [
        (0, 1, State.INCOMING, ""),
        (1, 2, State.DEFERRED, "ValueError: try 0"),
        (2, 3, State.DEFERRED, "ValueError: try 1"),
    ] == attempts


def test_a_retryable_error_names_its_own_delay(queue: Queue) -> None:
    @queue.handler
    def deliver(_message: Message, _payload: BinaryIO) -> None:
        raise RetryableError("slow down", after=7200)

    queue.enqueue(b"", message_id="a")
    before = datetime.now(UTC)
    queue.run(until_idle=True)

    after = queue.get("a")
    assert (State.DEFERRED, 1, "RetryableError: slow down") == (after.state, after.attempts, after.last_error)
    assert timedelta(hours=2) <= after.next_retry - before < timedelta(hours=2, minutes=1)


def test_a_policy_is_a_messages_own(new_queue: NewQueue) -> None:
    queue = new_queue(policies=retrying(hour=3600, day=86_400), retry_policy="hour")

    @queue.handler
    def deliver(_message: Message, _payload: BinaryIO) -> None:
        raise RetryableError

    queue.enqueue(b"", message_id="default")
    queue.enqueue(b"", message_id="argument", retry_policy="day")
    queue.enqueue(b"", message_id="header", headers={"x-retry-policy": "day"})
    queue.enqueue(b"", message_id="later")
    queue.set_retry_policy("later", "day")
    queue.run(until_idle=True)

    hours = {record.id: record.next_retry - datetime.now(UTC) for record in queue.iter(State.DEFERRED)}
    assert {"default": 1, "argument": 24, "header": 24, "later": 24} == {
        name: round(delay / timedelta(hours=1)) for name, delay in hours.items()
    }


def test_a_stored_policy_that_is_unknown_falls_back_to_the_default(
    new_queue: NewQueue, caplog: pytest.LogCaptureFixture
) -> None:
    new_queue(policies=retrying(gone=1)).enqueue(b"", message_id="a", retry_policy="gone")
    queue = new_queue(policies=retrying(hour=3600), retry_policy="hour")

    @queue.handler
    def deliver(_message: Message, _payload: BinaryIO) -> None:
        raise RetryableError

    queue.run(until_idle=True)

    assert 1 == round((queue.get("a").next_retry - datetime.now(UTC)) / timedelta(hours=1))
    assert any("'gone' is unknown" in message for message in caplog.messages)


def test_a_permanent_error_bounces_and_bounce_handlers_get_it(new_queue: NewQueue) -> None:
    queue = new_queue(on_bounce="delete")
    bounces = Recorder()
    queue.add_bounce_handler(bounces)

    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        message.headers["tried"] = "1"
        raise PermanentError("gone")

    queue.enqueue(b"body", message_id="a")
    queue.run(until_idle=True)

    (message,) = bounces.messages
    assert [("a", b"body")] == bounces.given
    assert ("PermanentError: gone", State.BOUNCE, {"tried": "1"}) == (
        message.last_error,
        message.claimed_from,
        message.headers,
    )
    assert 0 == sum(queue.counts().values())
    counted = queue.counters.snapshot()
    assert (1, 1, 0) == (counted["bounced"], counted["bounces_handled"], counted["delivered"])


def test_a_bounced_message_stays_without_bounce_handlers(queue: Queue) -> None:
    @queue.handler
    def deliver(_message: Message, _payload: BinaryIO) -> None:
        raise PermanentError

    queue.enqueue(b"", message_id="a")
    queue.run(until_idle=True)

    assert (State.BOUNCE, DUE) == (queue.get("a").state, queue.get("a").next_retry)


@pytest.mark.parametrize(("on_bounce", "state"), [("keep", State.BOUNCE), ("archive", State.ARCHIVED)])
def test_a_bounce_is_handled_once_and_kept(new_queue: NewQueue, on_bounce: str, state: State) -> None:
    queue = new_queue(on_bounce=on_bounce)  # type: ignore[arg-type]
    queue.add_bounce_handler(recorder := Recorder())
    queue.enqueue(b"", message_id="a")
    queue.bounce("a", "enough")

    queue.run(until_idle=True)
    queue.run(until_idle=True)

    assert ["a"] == recorder.ids
    assert (state, "enough") == (queue.get("a").state, queue.get("a").last_error)


def test_the_last_attempt_bounces(new_queue: NewQueue) -> None:
    queue = new_queue(policies=retrying(now=0), retry_policy="now", max_attempts=3)
    recorder = Recorder(then=lambda _: 1 / 0)
    queue.add_handler(recorder)
    queue.enqueue(b"", message_id="a")

    with queue:
        wait_until(lambda: queue.counters.snapshot()["bounced"])
        after = queue.get("a")

    assert 3 == len(recorder.given)
    assert (State.BOUNCE, 3, "ZeroDivisionError: division by zero") == (after.state, after.attempts, after.last_error)


def lose(queue: Queue, times: int) -> MessageMetadata:
    """Let workers that die claim a message; return the last claim."""
    claims = list[MessageMetadata]()
    for number in range(times):
        claims += queue.spool.meta.claim(
            [State.INCOMING], limit=1, lease=timedelta(microseconds=1), owner=f"killed-{number}"
        )
    assert times == len(claims)
    return claims[-1]


def test_a_message_that_kills_its_worker_ends_in_bounce(new_queue: NewQueue) -> None:
    queue = new_queue(max_lost_deliveries=3)
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"", message_id="a")
    queue.spool.meta.update_meta("a", begun_alone(lose(queue, 3)))

    queue.run(until_idle=True)

    after = queue.get("a")
    assert [] == recorder.ids
    assert (State.BOUNCE, 0) == (after.state, after.attempts)
    assert after.last_error.startswith("3 deliveries were lost")


def test_a_message_whose_workers_may_have_died_of_others_is_delivered(new_queue: NewQueue) -> None:
    queue = new_queue(max_lost_deliveries=3, on_success="archive")
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"", message_id="a")
    lose(queue, 9)

    queue.run(until_idle=True)

    assert ["a"] == recorder.ids
    assert (State.ARCHIVED, 10, {}) == (queue.get("a").state, queue.get("a").deliveries, queue.get("a").headers)


def read_and_fail(_message: Message, payload: BinaryIO) -> None:
    try:
        payload.read()
    except BackendError as error:
        raise ConnectionError("cut off") from error


def read_and_go_on(_message: Message, payload: BinaryIO) -> None:
    with suppress(BackendError):
        payload.read()


@pytest.mark.parametrize("handler", [lambda _, payload: payload.read(), read_and_fail, read_and_go_on])
def test_a_message_whose_payload_is_damaged_bounces_whatever_its_handler_makes_of_that(
    queue: Queue, handler: Handle
) -> None:
    queue.add_handler(handler)
    queue.enqueue(b"whole", message_id="a")
    queue.spool.data.store_data("a", b"whol\0")

    queue.run(until_idle=True)

    record = queue.get("a")
    assert (State.BOUNCE, 0) == (record.state, record.attempts)
    assert record.last_error.startswith("CorruptDataError: the payload of message 'a' is not what was handed in")
    assert b"whol\0" == queue.spool.data.get_data_reader("a").read()


def test_a_message_whose_payload_is_gone_bounces(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"", message_id="a")
    queue.spool.data.delete_data("a")

    queue.run(until_idle=True)

    after = queue.get("a")
    assert [] == recorder.ids
    assert (State.BOUNCE, "DataNotFoundError: message 'a' has no payload") == (after.state, after.last_error)
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_priorities_come_first(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=1, batch_size=1)
    queue.add_handler(recorder := Recorder())
    for number, priority in enumerate([5, 1, 9, 0, 5]):
        queue.enqueue(b"", message_id=f"{priority}-{number}", priority=priority)

    queue.run(until_idle=True)

    assert ["0-3", "1-1", "5-0", "5-4", "9-2"] == recorder.ids


def test_neither_new_nor_deferred_messages_starve_the_others(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=1, batch_size=1, spool=Spool(CountingMeta(), MemoryData()))
    recorder = Recorder()
    queue.add_handler(recorder)
    queue.add_bounce_handler(recorder)
    for state in (State.INCOMING, State.DEFERRED, State.BOUNCE):
        for number in range(20):
            queue.spool.enqueue(MessageMetadata(id=f"{state}-{number}", state=state), b"", is_new=True)

    queue.run(until_idle=True)

    first = Counter(each.split("-")[0] for each in recorder.ids[:30])
    assert {"incoming": 10, "deferred": 10, "bounce": 10} == first


def test_no_more_is_claimed_than_can_start(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=3)
    queue.add_handler(gate := Gate())
    for _ in range(20):
        queue.enqueue(b"")

    queue.start()
    gate.wait_for(3)

    assert (3, 17) == (queue.count(State.ACTIVE), queue.count(State.INCOMING))
    gate.opened.set()


def test_no_more_is_claimed_than_may_be_active(new_queue: NewQueue) -> None:
    queue = new_queue(concurrency=8, max_active=2)
    queue.add_handler(gate := Gate())
    for _ in range(20):
        queue.enqueue(b"")

    queue.start()
    gate.wait_for(2)

    assert 2 == queue.count(State.ACTIVE)
    gate.opened.set()
    wait_until(lambda: len(gate.left) == 20)


def test_a_worker_of_quick_handlers_claims_and_settles_in_batches(new_queue: NewQueue) -> None:
    meta = CountingMeta()
    queue = new_queue(spool=Spool(meta, MemoryData()), concurrency=2)
    queue.add_handler(Recorder())
    for _ in range(5000):
        queue.enqueue(b"")

    queue.run(until_idle=True)

    assert 5000 == sum(meta.batches)
    assert max(limit for _, limit, _ in meta.claims) > 2
    assert len(meta.claims) < 2500


def test_a_new_message_starts_at_once_in_an_idle_queue(new_queue: NewQueue) -> None:
    queue = new_queue(poll_s=3600)
    started = threading.Event()
    queue.add_handler(lambda _message, _payload: started.set())
    queue.start()
    for _ in range(20):
        started.clear()
        queue.enqueue(b"")
        assert started.wait(PATIENCE_S)
        wait_until(lambda: queue.counters.snapshot()["delivered"] == queue.counters.snapshot()["accepted"])


def test_a_deferred_message_starts_when_it_is_due_not_when_somebody_looks(new_queue: NewQueue) -> None:
    queue = new_queue(poll_s=3600)
    queue.add_handler(recorder := Recorder())
    queue.start()

    queue.enqueue(b"", not_before=0.3)

    recorder.wait_for(1)


def test_an_idle_queue_does_not_scan(new_queue: NewQueue) -> None:
    meta = CountingMeta()
    queue = new_queue(spool=Spool(meta, MemoryData()), poll_s=3600)
    queue.add_handler(Recorder())
    queue.enqueue(b"", not_before=3600)
    queue.start()
    wait_until(lambda: meta.claims)

    threading.Event().wait(0.6)

    assert len(meta.claims) <= 3


def test_what_is_due_but_not_for_this_worker_costs_no_busy_scan(new_queue: NewQueue) -> None:
    meta = CountingMeta()
    queue = new_queue(spool=Spool(meta, MemoryData()))
    queue.add_handler(Recorder())
    expired = MessageMetadata(id="a", state=State.ACTIVE, claimed_from=State.BOUNCE, lease_owner="x", lease_expires=DUE)
    queue.spool.enqueue(expired, b"", is_new=True)
    queue.start()
    wait_until(lambda: meta.claims)

    threading.Event().wait(0.6)

    assert len(meta.claims) <= 10


def test_working_until_idle_means_until_what_runs_is_done_and_leaves_nothing_due(new_queue: NewQueue) -> None:
    meta = CountingMeta()
    queue = new_queue(spool=Spool(meta, MemoryData()), concurrency=2)

    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        if message.attempts == 0:
            wait_until(lambda: len(meta.claims) > 1)  # so that a claim finds nothing while this runs
            raise RetryableError(after=0)

    queue.enqueue(b"")
    queue.run(until_idle=True)

    assert (1, 0) == (queue.counters.snapshot()["delivered"], sum(queue.counts().values()))


def test_a_queue_does_without_handlers_only_while_it_does_not_work(queue: Queue) -> None:
    with pytest.raises(QueueError, match="has no handler"):
        queue.start()
    with pytest.raises(QueueError, match="has no handler"):
        queue.run()
    with queue:
        assert not queue.running
        queue.enqueue(b"")


def test_a_queue_runs_once_and_not_after_it_was_closed(queue: Queue) -> None:
    queue.add_handler(Recorder())
    queue.start()
    with pytest.raises(QueueError, match="running already"):
        queue.start()
    with pytest.raises(QueueError, match="running already"):
        queue.run()
    queue.close()
    queue.close()

    with pytest.raises(QueueError, match="is closed"):
        queue.start()


def test_counters_tell_what_was_done(new_queue: NewQueue) -> None:
    queue = new_queue()

    @queue.handler
    def deliver(_message: Message, payload: BinaryIO) -> None:
        what = payload.read()
        threading.Event().wait(0.01)
        if what == b"fail":
            raise ValueError
        if what == b"bounce":
            raise PermanentError

    for body in (b"", b"", b"", b"fail", b"fail", b"bounce"):
        queue.enqueue(body)
    queue.run(until_idle=True)

    counted = queue.counters.snapshot()
    assert 0.05 < counted.pop("handler_seconds") < PATIENCE_S
    assert {"accepted": 6, "claimed": 6, "delivered": 3, "deferred": 2, "bounced": 1} == {
        name: count for name, count in counted.items() if count
    }


def test_logs_say_what_became_of_a_message(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        if message.id == "bad":
            raise PermanentError("gone")

    caplog.set_level(logging.DEBUG, logger="retryspool")
    for name in ("good", "bad"):
        queue.enqueue(b"", message_id=name, route="r")
    queue.run(until_idle=True)

    settled = {
        record.__dict__["message_id"]: (record.levelname, record.__dict__["became"], record.__dict__["error"])
        for record in caplog.records
        if "became" in record.__dict__
    }
    assert {"good": ("DEBUG", "deleted", ""), "bad": ("INFO", "bounce", "PermanentError: gone")} == settled


def test_a_library_is_silent_unless_asked() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("retryspool").handlers)
