from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queues import Gate, NewQueue, Recorder, wait_until

from retryspool import (
    NEVER,
    ZERO_TIME,
    DataNotFoundError,
    FixedRetry,
    InvalidOptionError,
    MessageMetadata,
    MessageNotFoundError,
    Queue,
    Spool,
    State,
    StateConflictError,
)
from retryspool.conformance.racing import race
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.queue.message import user_headers

FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
WAITING = {State.INCOMING, State.DEFERRED, State.HOLD, State.BOUNCE, State.ARCHIVED}


def put(queue: Queue, **fields: object) -> MessageMetadata:
    """Store a message as if it had come to where it is."""
    fields = {"id": "a", "attempts": 3, "deliveries": 4, "next_retry": FUTURE, "last_error": "x", **fields}
    return queue.spool.enqueue(MessageMetadata(**fields), b"body", is_new=True)  # type: ignore[arg-type]


def test_a_held_message_is_not_delivered_until_released(queue: Queue) -> None:
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"", message_id="a")

    assert State.HOLD is queue.hold("a").state
    queue.run(until_idle=True)
    assert [] == recorder.ids
    assert State.INCOMING is queue.release("a").state
    queue.run(until_idle=True)

    assert ["a"] == recorder.ids


def test_a_released_message_is_due_when_it_was(queue: Queue) -> None:
    put(queue, state=State.HOLD)
    put(queue, state=State.HOLD, id="b", next_retry=NEVER)

    assert FUTURE == queue.release("a").next_retry
    assert ZERO_TIME == queue.release("b").next_retry


@pytest.mark.parametrize(
    ("state", "after", "attempts"),
    [
        (State.INCOMING, State.INCOMING, 3),
        (State.DEFERRED, State.DEFERRED, 3),
        (State.HOLD, State.INCOMING, 3),
        (State.BOUNCE, State.INCOMING, 0),
        (State.ARCHIVED, State.INCOMING, 0),
    ],
)
def test_a_retried_message_is_due_now(queue: Queue, state: State, after: State, attempts: int) -> None:
    put(queue, state=state)

    record = queue.retry("a")

    assert (after, ZERO_TIME, attempts) == (record.state, record.next_retry, record.attempts)


def test_a_message_bounced_by_hand_goes_to_bounce_handlers(queue: Queue) -> None:
    queue.add_bounce_handler(recorder := Recorder())
    put(queue, state=State.DEFERRED)

    record = queue.bounce("a", "not\0 wanted")
    queue.run(until_idle=True)

    assert (State.BOUNCE, "not\N{REPLACEMENT CHARACTER} wanted", 0) == (
        record.state,
        record.last_error,
        record.deliveries,
    )
    assert ["a"] == recorder.ids


def test_an_archived_message_is_requeued_afresh(queue: Queue) -> None:
    put(queue, state=State.ARCHIVED)

    record = queue.requeue("a")

    assert (State.INCOMING, 0, 0, ZERO_TIME) == (record.state, record.attempts, record.deliveries, record.next_retry)


def test_headers_are_set_and_removed(queue: Queue) -> None:
    put(queue, headers={"keep": "1", "change": "2", "drop": "3", "x-retryspool-encoding": ""})

    record = queue.update_headers("a", {"change": "4", "drop": None, "new": "5", "x-retryspool-encoding": "zstd"})

    assert {"keep": "1", "change": "4", "new": "5"} == user_headers(record.headers)


def test_a_policy_is_chosen_later(new_queue: NewQueue) -> None:
    queue = new_queue(policies={"fast": FixedRetry(1)})
    put(queue)

    assert "fast" == queue.set_retry_policy("a", "fast").retry_policy_name
    assert "" == queue.set_retry_policy("a", "").retry_policy_name
    with pytest.raises(InvalidOptionError, match="'lost'"):
        queue.set_retry_policy("a", "lost")


def test_a_deleted_message_is_gone_with_its_payload(queue: Queue) -> None:
    put(queue, state=State.HOLD)

    queue.delete("a")

    with pytest.raises(MessageNotFoundError):
        queue.get("a")
    with pytest.raises(DataNotFoundError):
        queue.spool.data.get_data_reader("a")


BY_HAND = {
    "hold": (
        lambda queue, **force: queue.hold("a", **force),
        {State.INCOMING, State.DEFERRED, State.HOLD, State.BOUNCE},
    ),
    "release": (lambda queue: queue.release("a"), {State.HOLD}),
    "retry": (lambda queue, **force: queue.retry("a", **force), WAITING),
    "bounce": (
        lambda queue, **force: queue.bounce("a", **force),
        {State.INCOMING, State.DEFERRED, State.HOLD},
    ),
    "requeue": (lambda queue: queue.requeue("a"), {State.ARCHIVED}),
    "headers": (lambda queue, **force: queue.update_headers("a", {"x": "y"}, **force), WAITING),
    "policy": (lambda queue, **force: queue.set_retry_policy("a", "", **force), WAITING),
    "delete": (lambda queue, **force: queue.delete("a", **force), WAITING),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_each_is_refused_in_the_states_that_it_is_not_for(queue: Queue, name: str) -> None:
    change, allowed = BY_HAND[name]
    leased = {"lease_owner": "o", "lease_expires": FUTURE}

    for state in State:
        put(queue, state=state, **(leased if state is State.ACTIVE else {}))
        if state in allowed:
            change(queue)  # type: ignore[no-untyped-call]
        else:
            with pytest.raises(StateConflictError) as caught:
                change(queue)  # type: ignore[no-untyped-call]
            assert state is caught.value.found
            assert f"message 'a' is '{state}', expected '" in str(caught.value)
        if not (name == "delete" and state in allowed):
            queue.spool.delete("a")


@pytest.mark.parametrize("name", BY_HAND)
def test_each_says_that_there_is_no_such_message(queue: Queue, name: str) -> None:
    with pytest.raises(MessageNotFoundError):
        BY_HAND[name][0](queue)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", ["hold", "retry", "bounce", "headers", "policy", "delete"])
def test_a_message_under_a_lease_is_taken_from_its_worker_by_force_alone(new_queue: NewQueue, name: str) -> None:
    queue = new_queue()
    queue.add_handler(gate := Gate())
    queue.enqueue(b"", message_id="a", not_before=0)
    queue.start()
    gate.wait_for(1)
    change, _ = BY_HAND[name]

    with pytest.raises(StateConflictError):
        change(queue)  # type: ignore[no-untyped-call]
    assert State.ACTIVE is queue.get("a").state
    queue.stop(0)
    change(queue, force=True)  # type: ignore[no-untyped-call]
    gate.opened.set()
    wait_until(lambda: queue.counters.snapshot()["lost_leases"] == 1)

    assert 0 == queue.counters.snapshot()["delivered"]
    if name != "delete":
        assert State.ACTIVE is not queue.get("a").state


@pytest.mark.parametrize("origin", [None, State.INCOMING, State.DEFERRED, State.BOUNCE])
def test_a_message_whose_lease_is_over_is_where_it_was_claimed_from(queue: Queue, origin: State | None) -> None:
    put(queue, state=State.ACTIVE, claimed_from=origin, lease_owner="o", lease_expires=datetime.now(UTC))

    record = queue.update_headers("a", {"x": "y"})

    assert (origin or State.INCOMING, "", ZERO_TIME, None) == (
        record.state,
        record.lease_owner,
        record.lease_expires,
        record.claimed_from,
    )


def test_racing_changes_are_all_made(queue: Queue) -> None:
    queue.enqueue(b"", message_id="a")

    race(16, lambda number: queue.update_headers("a", {f"h{number}": "x"}))

    assert {f"h{number}" for number in range(16)} == set(user_headers(queue.get("a").headers))


def test_archived_messages_are_pruned_by_age(new_queue: NewQueue) -> None:
    queue = new_queue(retention_s=3600, batch_size=3)
    meta = queue.spool.meta
    for number in range(10):
        put(queue, state=State.ARCHIVED, id=f"old-{number}")
        put(queue, state=State.DEFERRED, id=f"waiting-{number}")
    assert isinstance(meta, MemoryMeta)
    for record in meta._shared.records.values():
        object.__setattr__(record, "updated", datetime.now(UTC) - timedelta(hours=2))
    put(queue, state=State.ARCHIVED, id="new")

    assert 10 == queue.prune()

    assert ["new"] == [record.id for record in queue.iter(State.ARCHIVED)]
    assert 10 == queue.count(State.DEFERRED)
    assert 11 == len(list(queue.spool.data.iter_data()))
    assert 10 == queue.counters.snapshot()["pruned"]


def test_nothing_is_pruned_without_a_retention(queue: Queue) -> None:
    put(queue, state=State.ARCHIVED)

    assert 0 == queue.prune()


def test_a_worker_prunes_by_itself(new_queue: NewQueue) -> None:
    queue = new_queue(unchecked={"prune_interval_s": 0.01, "retention_s": 0.01}, on_success="archive")
    queue.add_handler(Recorder())
    queue.enqueue(b"")

    with queue:
        wait_until(lambda: queue.counters.snapshot()["pruned"] == 1)


OPERATIONS = st.sampled_from(sorted(BY_HAND))


@given(st.lists(OPERATIONS, max_size=12))
def test_any_changes_in_any_order_leave_a_message_in_a_state_that_makes_sense(names: list[str]) -> None:
    queue = Queue(Spool(MemoryMeta(), MemoryData()))
    queue.enqueue(b"body", message_id="a")
    state: State | None = State.INCOMING
    for name in names:
        change, allowed = BY_HAND[name]
        try:
            change(queue)  # type: ignore[no-untyped-call]
        except MessageNotFoundError:
            assert state is None
            continue
        except StateConflictError:
            assert state not in allowed
            continue
        assert state in allowed
        state = None if name == "delete" else queue.get("a").state
        assert state is not State.ACTIVE
    assert (state is not None) == bool(list(queue.spool.data.iter_data()))
    queue.close()
