"""A message on its last chance is handled while nothing else of its worker is, and holds up nobody for ever."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import BinaryIO

import pytest
from queues import PATIENCE_S, NewQueue, Recorder, wait_until

from retryspool import (
    AsyncPayload,
    BackendUnavailableError,
    Message,
    MessageMetadata,
    Queue,
    QueueOptions,
    RouteOptions,
    Spool,
    State,
)
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.meta import Update, Write, WriteResult
from retryspool.queue import isolation
from retryspool.queue.capacity import Capacity
from retryspool.queue.losses import ALONE_HEADER
from retryspool.queue.message import Job
from retryspool.queue.outcome import PutOff
from retryspool.queue.worker import Worker

NARROW = RouteOptions(concurrency=1, initial_concurrency=1)


class Company:
    """A handler that notes who runs beside whom; messages whose names begin with "long" stay until opened."""

    def __init__(self) -> None:
        self.beside: dict[str, set[str]] = {}
        self.records: dict[str, MessageMetadata] = {}
        self.opened = threading.Event()
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def add_to(self, queue: Queue, kind: str) -> None:
        queue.add_handler(self._handle if kind == "threads" else self._handle_in_a_loop)

    def wait_for(self, *names: str) -> None:
        wait_until(lambda: set(names) <= self._running, f"{names} run")

    def _handle(self, message: Message, _payload: BinaryIO) -> None:
        self._enter(message)
        assert not message.id.startswith("long") or self.opened.wait(PATIENCE_S)
        self._leave(message)

    async def _handle_in_a_loop(self, message: Message, _payload: AsyncPayload) -> None:
        self._enter(message)
        while message.id.startswith("long") and not self.opened.is_set():  # noqa: ASYNC110 -- set in another thread
            await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        self._leave(message)

    def _enter(self, message: Message) -> None:
        with self._lock:
            self._running.add(message.id)
            self.records[message.id] = message.record
            for name in self._running:
                self.beside.setdefault(name, set()).update(self._running)

    def _leave(self, message: Message) -> None:
        with self._lock:
            self._running.remove(message.id)


def put(queue: Queue, *names: str, lost: int = 0, route: str = "") -> None:
    """Store messages of which deliveries were lost."""
    for name in names:
        queue.spool.data.store_data(name, b"")
        queue.spool.meta.store_meta(name, MessageMetadata(name, deliveries=lost, route=route))


def worker_of(queue: Queue) -> Worker:
    assert queue._worker is not None
    return queue._worker


def wait_for_the_turn(queue: Queue) -> None:
    """Wait until a message's turn has come that is to run alone."""
    wait_until(lambda: worker_of(queue)._lanes.is_kept_for_one)


def with_last_behind_long(queue: Queue, kind: str) -> Company:
    """Start a worker that has "last", whose turn to run alone has come, wait for "long" to end."""
    (company := Company()).add_to(queue, kind)
    put(queue, "long")
    queue.start()
    company.wait_for("long")
    put(queue, "last", lost=4)
    wait_for_the_turn(queue)
    return company


def wait_for_deferral(queue: Queue, name: str) -> MessageMetadata:
    found = list[MessageMetadata]()
    wait_until(lambda: found.append(queue.get(name)) or found[-1].state is State.DEFERRED)
    return found[-1]


@pytest.fixture(params=["threads", "coroutines"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_last_chance_waits_for_what_runs_and_nothing_begins_beside_it(new_queue: NewQueue, kind: str) -> None:
    queue = new_queue(concurrency=4)
    (company := Company()).add_to(queue, kind)
    put(queue, "long1", "long2")
    queue.start()
    company.wait_for("long1", "long2")

    put(queue, "last", lost=4)
    wait_for_the_turn(queue)
    put(queue, "next")
    company.opened.set()

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 4)
    assert {"last"} == company.beside["last"]
    assert not company.beside["next"] & {"long1", "long2"}
    assert {"long1", "long2"} == company.beside["long1"]


def test_one_after_the_other_runs_alone_and_the_others_run_together(new_queue: NewQueue, kind: str) -> None:
    queue = new_queue(concurrency=4)
    (company := Company()).add_to(queue, kind)
    last = [f"last{number}" for number in range(20)]
    for number, name in enumerate(last):
        put(queue, name, lost=4 + number % 3)
        put(queue, *(f"m{number}-{each}" for each in range(5)), lost=number % 4)

    queue.run(until_idle=True)

    assert 120 == len(company.beside)
    assert [{name} for name in last] == [company.beside[name] for name in last]
    assert 120 == queue.counters.snapshot()["delivered"]
    assert not any(queue.counts().values())


def test_a_worker_of_one_handler_notes_which_it_has_begun_too(new_queue: NewQueue, kind: str) -> None:
    queue = new_queue(concurrency=1)
    (company := Company()).add_to(queue, kind)
    put(queue, "m", lost=3)
    put(queue, "last", lost=4)

    queue.run(until_idle=True)

    assert [None, "5"] == [company.records[name].headers.get(ALONE_HEADER) for name in ("m", "last")]


def test_what_has_not_begun_goes_to_another_worker_meanwhile(new_queue: NewQueue, kind: str) -> None:
    queue, other = new_queue(routes={"narrow": NARROW}), new_queue()
    (company := Company()).add_to(queue, kind)
    other.add_handler(recorder := Recorder())
    put(queue, "long", route="narrow")
    queue.start()
    company.wait_for("long")
    put(queue, "behind", route="narrow")
    wait_until(lambda: queue.get("behind").state is State.ACTIVE)
    put(queue, "last", lost=4)
    wait_for_the_turn(queue)

    other.start()

    recorder.wait_for(1)
    assert (["behind"], 1) == (recorder.ids, recorder.messages[0].deliveries)
    other.stop()
    company.opened.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 2)
    assert {"last"} == company.beside["last"]


def test_a_handler_that_does_not_end_puts_the_last_chance_off_and_the_others_go_on(
    new_queue: NewQueue, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_PATIENCE_S", 0.05)
    queue = new_queue()
    (company := Company()).add_to(queue, kind)
    put(queue, "long")
    queue.start()
    company.wait_for("long")
    put(queue, "last", lost=4)

    after = wait_for_deferral(queue, "last")
    put(queue, "next")
    wait_until(lambda: "next" in company.beside)

    assert (4, 0) == (after.deliveries, after.attempts)
    assert "put off: it's on its last chance, to be handled alone, but other handlers don't end" == after.last_error
    assert {"long", "next"} == company.beside["next"]
    put(queue, "later", lost=4)
    wait_for_deferral(queue, "later")
    company.opened.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 4)
    assert ({"last"}, {"later"}) == (company.beside["last"], company.beside["later"])


def test_whoever_waited_in_vain_waits_longer_the_next_time_and_a_tenth_of_all_time_at_the_most(
    new_queue: NewQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_PATIENCE_S", 0.01)
    monkeypatch.setattr(isolation, "_LONGEST_S", 0.1)
    queue = new_queue()
    (company := Company()).add_to(queue, "threads")
    put(queue, "long1", "long2")
    queue.start()
    company.wait_for("long1", "long2")
    alone = worker_of(queue)._isolation
    last = Job(MessageMetadata("last", State.ACTIVE), math.inf, alone=True)

    pauses_s = list[float]()
    for _ in range(4):
        alone._waits_again_at = 0
        outcome, again = alone.enter(last), alone.enter(last)
        assert isinstance(outcome, PutOff)
        assert isinstance(again, PutOff)
        assert again.after < outcome.after
        pauses_s.append(outcome.after.total_seconds())

    company.opened.set()
    assert [0.1, 0.4, 1, 1] == pauses_s


def test_a_stop_gives_back_what_waits_to_run_alone_uncounted(new_queue: NewQueue, kind: str) -> None:
    queue = new_queue()
    company = with_last_behind_long(queue, kind)

    worker_of(queue).begin_stop(PATIENCE_S)

    wait_until(lambda: queue.get("last").state is State.INCOMING)
    assert (4, {}) == (queue.get("last").deliveries, queue.get("last").headers)
    company.opened.set()
    queue.stop()
    assert {"long"} == set(company.beside)


def test_a_message_that_was_taken_away_while_it_waited_does_not_begin(new_queue: NewQueue) -> None:
    queue = new_queue()
    company = with_last_behind_long(queue, "threads")

    queue.delete("last", force=True)
    company.opened.set()

    wait_until(lambda: queue.counters.snapshot()["lost_leases"] == 1)
    assert {"long"} == set(company.beside)
    put(queue, "next")
    wait_until(lambda: "next" in company.beside)


def test_what_waits_for_its_destination_keeps_nobody_waiting(new_queue: NewQueue) -> None:
    queue = new_queue(routes={"metered": RouteOptions(rate="1/day")})
    (company := Company()).add_to(queue, "threads")
    put(queue, "first", route="metered")
    queue.start()
    wait_until(lambda: "first" in company.beside)
    put(queue, "last", lost=4, route="metered")
    wait_until(lambda: queue.get("last").state is State.ACTIVE)

    put(queue, "next")

    wait_until(lambda: "next" in company.beside)
    assert "last" not in company.beside


class Forgetful(MemoryMeta):
    """Records in memory; the first mark that a message begins alone gets no answer, and is stored or isn't."""

    def __init__(self, *, stores: bool) -> None:
        super().__init__()
        self._stores = stores
        self.marks = 0

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        marks = any(isinstance(each, Update) and each.metadata.state is State.ACTIVE for each in writes)
        self.marks += marks
        if not marks or self.marks > 1:
            return super().apply(writes)
        if self._stores:
            super().apply(writes)
        raise BackendUnavailableError("no answer", outcome="unknown")


@pytest.mark.parametrize(("stores", "marks"), [(False, 2), (True, 1)])
def test_a_message_begins_only_when_it_is_stored_that_it_is_alone(
    new_queue: NewQueue, marks: int, *, stores: bool
) -> None:
    meta = Forgetful(stores=stores)
    queue = new_queue(spool=Spool(meta, MemoryData()))
    (company := Company()).add_to(queue, "threads")
    put(queue, "last", lost=4)

    queue.run(until_idle=True)

    assert "5" == company.records["last"].headers[ALONE_HEADER]
    assert (marks, 1, 0) == (meta.marks, queue.counters.snapshot()["delivered"], sum(queue.counts().values()))
    assert 0 == queue.counters.snapshot()["lost_leases"]


def test_a_message_that_begins_alone_has_a_new_lease(new_queue: NewQueue) -> None:
    queue = new_queue()
    company = with_last_behind_long(queue, "threads")
    claimed = queue.get("last")
    company.opened.set()

    wait_until(lambda: "last" in company.records)

    assert claimed.lease_expires < company.records["last"].lease_expires
    assert (claimed.lease_owner, 5) == (company.records["last"].lease_owner, company.records["last"].deliveries)


def test_nothing_is_claimed_while_one_runs_alone() -> None:
    is_kept = True
    capacity = Capacity(QueueOptions(), is_kept=lambda: is_kept)
    capacity.claimed(1)
    limits: SimpleQueue[int] = SimpleQueue()
    dispatcher = threading.Thread(target=lambda: limits.put(capacity.wait()))
    dispatcher.start()
    wait_until(lambda: capacity._waiting)
    assert limits.empty()

    is_kept = False
    capacity.handled()

    assert 8 == limits.get(timeout=PATIENCE_S)
    dispatcher.join(PATIENCE_S)


def test_after_one_that_is_to_run_alone_claims_begin_with_one_message_and_grow() -> None:
    capacity = Capacity(QueueOptions(concurrency=1000, batch_size=20))
    limits = [capacity.wait()]
    capacity.claimed(1, singly=True)

    for _ in range(6):
        limits.append(capacity.wait())
        capacity.claimed(1)

    assert [20, 1, 2, 4, 8, 16, 20] == limits
