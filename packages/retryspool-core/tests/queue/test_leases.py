"""Leases: renewed while a handler runs, taken over when they are over, and what comes too late is refused."""

from __future__ import annotations

import threading
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from queues import PATIENCE_S, Gate, NewQueue, Recorder, wait_until

from retryspool import Message, MessageMetadata, PermanentError, Queue, Spool, State
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.queue.capacity import Capacity
from retryspool.queue.counters import Counters
from retryspool.queue.message import Job
from retryspool.queue.observing import Observers
from retryspool.queue.options import QueueOptions
from retryspool.queue.outcome import Failed, Rules, Succeeded
from retryspool.queue.policy import Policies
from retryspool.queue.settler import Settler

LEASE = timedelta(seconds=60)


def expire(queue: Queue, message_id: str) -> None:
    """Let a message's lease be over, as if its worker had been frozen meanwhile; its version stays."""
    meta = queue.spool.meta
    assert isinstance(meta, MemoryMeta)
    with meta._shared.changed:
        record = meta._shared.records[message_id]
        meta._shared.remove(message_id)
        object.__setattr__(record, "lease_expires", record.created)
        meta._shared.records[message_id] = record
        meta._shared.due[State.ACTIVE].setdefault(record.priority, []).insert(0, (record.created, message_id))


def test_a_lease_is_renewed_as_long_as_the_handler_runs(new_queue: NewQueue) -> None:
    queue = new_queue(unchecked={"lease_s": 0.3})
    other = new_queue(unchecked={"lease_s": 0.3, "poll_s": 0.05})
    queue.add_handler(gate := Gate())
    other.add_handler(thief := Recorder())
    queue.enqueue(b"", message_id="a")
    queue.start()
    gate.wait_for(1)
    first = queue.get("a")
    other.start()

    wait_until(lambda: queue.get("a").lease_expires > first.lease_expires + timedelta(seconds=1))

    assert ([], False, first.lease_owner) == (thief.ids, gate.messages[0].lost, queue.get("a").lease_owner)
    gate.opened.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 1)
    assert 0 == queue.counters.snapshot()["lost_leases"]


def test_a_message_claimed_ahead_is_renewed_too(new_queue: NewQueue) -> None:
    queue = new_queue(unchecked={"lease_s": 0.3}, concurrency=1)
    queue.add_handler(gate := Gate())
    for name in ("a", "b"):
        queue.enqueue(b"", message_id=name)
    queue.start()
    gate.wait_for(1)
    worker = queue._worker
    assert worker is not None
    (record,) = queue.spool.meta.claim([State.INCOMING], limit=1, lease=timedelta(seconds=0.3), owner=worker.owner)
    worker._hand_out([record], worker._settler._renew_at)

    wait_until(lambda: queue.get("b").lease_expires > record.lease_expires + timedelta(seconds=1))
    gate.opened.set()

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 2)


def test_a_late_worker_cannot_settle_a_message_that_was_taken_over(new_queue: NewQueue) -> None:
    late, heir = new_queue(), new_queue(on_success="archive")
    late.add_handler(gate := Gate())
    heir.add_handler(recorder := Recorder())
    late.enqueue(b"", message_id="a")
    late.start()
    gate.wait_for(1)
    expire(late, "a")

    heir.start()
    recorder.wait_for(1)
    wait_until(lambda: heir.counters.snapshot()["archived"] == 1)
    gate.opened.set()
    wait_until(lambda: late.counters.snapshot()["lost_leases"] == 1)

    assert (State.ARCHIVED, 2) == (heir.get("a").state, recorder.messages[0].deliveries)
    assert (0, 0) == (late.counters.snapshot()["delivered"], late.count(State.ACTIVE))
    assert b"" == heir.open_payload("a").read()


def test_a_handler_sees_that_its_lease_was_lost(new_queue: NewQueue) -> None:
    queue, heir = new_queue(unchecked={"lease_s": 0.6}), new_queue()
    seen = threading.Event()

    @queue.handler
    def deliver(message: Message, _payload: object) -> None:
        wait_until(lambda: message.lost)
        seen.set()
        raise PermanentError("never mind")

    heir.add_handler(gate := Gate())
    queue.enqueue(b"", message_id="a")
    queue.start()
    wait_until(lambda: queue.count(State.ACTIVE))
    expire(queue, "a")
    heir.start()
    gate.wait_for(1)

    assert seen.wait(PATIENCE_S)
    wait_until(lambda: queue.counters.snapshot()["lost_leases"] == 1)

    assert (State.ACTIVE, "") == (queue.get("a").state, queue.get("a").last_error)
    gate.opened.set()


def test_a_message_whose_lease_was_lost_before_its_handler_began_does_not_begin(new_queue: NewQueue) -> None:
    late, heir = new_queue(unchecked={"lease_s": 0.6}, concurrency=1), new_queue()
    late.add_handler(gate := Gate())
    heir.add_handler(heirs := Gate())
    late.enqueue(b"", message_id="a")
    late.start()
    gate.wait_for(1)
    late.enqueue(b"", message_id="b")
    worker = late._worker
    assert worker is not None
    records = late.spool.meta.claim([State.INCOMING], limit=1, lease=timedelta(seconds=0.6), owner=worker.owner)
    worker._hand_out(records, worker._settler._renew_at)
    expire(late, "b")
    heir.start()
    heirs.wait_for(1)
    job = worker._settler._jobs["b"]
    wait_until(lambda: job.lost)

    gate.opened.set()
    wait_until(lambda: late.counters.snapshot()["lost_leases"] == 1)
    heirs.opened.set()
    wait_until(lambda: not sum(late.counts().values()))

    assert (["a"], ["b"]) == ([each.id for each in gate.messages], [each.id for each in heirs.messages])


def test_a_message_whose_worker_died_is_delivered_once_its_lease_is_over(new_queue: NewQueue) -> None:
    queue = new_queue(poll_s=3600)
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"", message_id="a")
    queue.spool.meta.claim([State.INCOMING], limit=1, lease=timedelta(seconds=0.4), owner="killed")
    queue.start()

    recorder.wait_for(1)

    assert 2 == recorder.messages[0].deliveries


def test_the_owner_is_another_at_each_start(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(gate := Gate())
    owners: list[str] = []
    gate.opened.set()
    for _ in range(3):
        queue.start()
        assert queue._worker is not None
        owners.append(queue._worker.owner)
        queue.stop()

    assert 3 == len(set(owners))


def _settler(**settings: object) -> tuple[Spool, Settler, Counters, Capacity]:
    spool = Spool(MemoryMeta(), MemoryData())
    options = QueueOptions(**settings)  # type: ignore[arg-type]
    counters, capacity = Counters(), Capacity(options)
    rules = Rules(options, Policies({}, "exponential"))
    return spool, Settler(spool, rules, counters, capacity, Observers()), counters, capacity


def _claim(spool: Spool) -> MessageMetadata:
    (record,) = spool.meta.claim([State.INCOMING], limit=1, lease=timedelta(microseconds=1), owner="o")
    return record


def test_a_message_that_this_worker_claims_again_goes_on_under_the_new_lease() -> None:
    spool, settler, counters, capacity = _settler(on_success="archive")
    spool.enqueue(MessageMetadata(id="a"), b"", is_new=True)
    first = _claim(spool)
    (job,) = settler.add([first], 0)
    capacity.claimed(1)

    again = _claim(spool)
    assert [] == settler.add([again], 0)
    job.outcome = Succeeded()
    settler.put(job)
    settler.close()
    settler.run()

    assert State.ARCHIVED is spool.get("a").state
    assert (1, 0) == (counters.snapshot()["delivered"], counters.snapshot()["lost_leases"])


def test_a_message_that_was_settled_while_it_was_claimed_again_is_released() -> None:
    spool, settler, counters, capacity = _settler()
    spool.enqueue(MessageMetadata(id="a"), b"", is_new=True)
    (job,) = settler.add([_claim(spool)], 0)
    capacity.claimed(1)
    again = _claim(spool)
    assert [] == settler.add([again], 0)

    job.outcome = Failed("x")
    settler._settle([job])  # refused: its version is that of the first claim
    settler._gather()

    assert (State.INCOMING, again.deliveries - 1) == (spool.get("a").state, spool.get("a").deliveries)
    assert 1 == counters.snapshot()["lost_leases"]


STEPS = st.lists(st.sampled_from(["claim", "renew", "settle", "steal"]), max_size=12)


@settings(deadline=None)
@given(STEPS)
def test_in_any_order_of_renewals_thefts_and_results_one_worker_at_the_most_settles(steps: list[str]) -> None:
    spool, settler, counters, capacity = _settler(on_success="archive", lease_s=1)
    spool.enqueue(MessageMetadata(id="a"), b"", is_new=True)
    job: Job | None = None
    holder = None
    for step in steps:
        state = spool.get("a").state
        if step == "claim" and job is None and state is not State.ARCHIVED:
            claimed = spool.meta.claim([State.INCOMING], limit=1, lease=timedelta(microseconds=1), owner="us")
            added = settler.add(claimed, 0)  # none if another's lease is still good
            if added:
                (job,) = added
                capacity.claimed(1)
                holder = "us"
        elif step == "renew" and job is not None:
            settler._renew()
        elif step == "steal" and state is State.ACTIVE:
            stolen = spool.get("a")
            spool.meta.update_meta("a", stolen, if_version=stolen.version)  # as any write by another: the version rises
            holder = "them"
        elif step == "settle" and job is not None:
            job.outcome = Succeeded()
            before = counters.snapshot()
            settler._settle([job])
            after = counters.snapshot()
            won = holder == "us"
            assert (won, not won) == (
                after["delivered"] > before["delivered"],
                after["lost_leases"] > before["lost_leases"],
            )
            assert won == (spool.get("a").state is State.ARCHIVED)
            job = None
            holder = None
    spool.close()
