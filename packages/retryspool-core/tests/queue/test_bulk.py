from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from backends import new_namespace
from processes import processes
from queues import Gate, NewQueue, Recorder, wait_until

from retryspool import (
    BackendUnavailableError,
    Change,
    Filter,
    FixedRetry,
    InvalidOptionError,
    MessageMetadata,
    Queue,
    Spool,
    State,
    Tally,
)
from retryspool.memory import MemoryData, MemoryMeta, MemoryMetaFactory
from retryspool.meta import Store, Update, Write, WriteResult
from retryspool.model import utc_now
from retryspool.queue import changes

FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
EVERYTHING = Filter()


def put(queue: Queue, message_id: str, state: State = State.INCOMING, **fields: Any) -> MessageMetadata:
    record = MessageMetadata(message_id, state=state, **fields)
    return queue.spool.enqueue(record, b"body", is_new=True)


def counted(tally: Tally) -> tuple[int, int, dict[str, int], dict[str, int]]:
    return tally.matched, tally.changed, dict(tally.skipped), dict(tally.failed)


@pytest.fixture(params=["memory", "fs", "redis"])
def any_queue(request: pytest.FixtureRequest, new_queue: NewQueue, tmp_path: Path) -> Iterator[Queue]:
    if request.param == "memory":
        yield new_queue(batch_size=7)
        return
    meta = f"fs:{tmp_path}/meta?sync=performance"
    if request.param == "redis":
        meta = f"{request.getfixturevalue('redis_url')}?namespace={new_namespace()}"
    with Queue.open(meta=meta, data=f"fs:{tmp_path}/data?sync=performance", batch_size=7) as queue:
        yield queue


CHANGES: dict[str, tuple[Change, State, Callable[[MessageMetadata], bool]]] = {
    "hold": (changes.hold(), State.DEFERRED, lambda record: record.state is State.HOLD),
    "release": (changes.release(), State.HOLD, lambda record: record.state is State.INCOMING),
    "retry": (changes.retry(), State.BOUNCE, lambda record: (record.state, record.attempts) == (State.INCOMING, 0)),
    "bounce": (changes.bounce("no"), State.HOLD, lambda r: (r.state, r.last_error) == (State.BOUNCE, "no")),
    "requeue": (changes.requeue(), State.ARCHIVED, lambda record: record.state is State.INCOMING),
    "set_route": (changes.set_route("new"), State.HOLD, lambda record: record.route == "new"),
    "set_priority": (changes.set_priority(1), State.DEFERRED, lambda record: record.priority == 1),
    "set_retry_policy": (changes.set_retry_policy(""), State.HOLD, lambda record: not record.retry_policy_name),
    "update_headers": (changes.update_headers({"a": "b"}), State.HOLD, lambda record: record.headers["a"] == "b"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_made_to_all_that_are_meant(any_queue: Queue, name: str) -> None:
    change, state, as_wanted = CHANGES[name]
    for number in range(40):
        put(any_queue, f"m{number}", state, attempts=3, route="a", retry_policy_name="x", next_retry=FUTURE)
        put(any_queue, f"other{number}", state, route="b")

    tally = any_queue.change_all(change, Filter(states=(state,), routes=("a",)))

    assert (40, 40, {}, {}) == counted(tally)
    found = {record.id: record for each in State for record in any_queue.iter(each)}
    assert 80 == len(found)
    assert all(as_wanted(found[f"m{number}"]) for number in range(40))
    assert not any(found[f"other{number}"].version > 1 for number in range(40))


def test_all_that_are_meant_are_deleted_with_their_payloads(any_queue: Queue) -> None:
    for number in range(40):
        put(any_queue, f"m{number}", State.BOUNCE)
    put(any_queue, "kept", State.HOLD)

    tally = any_queue.change_all(changes.delete(), Filter(states=(State.BOUNCE,)))

    assert 40 == tally.changed
    assert ["kept"] == [info.message_id for info in any_queue.spool.data.iter_data()]


@pytest.mark.parametrize("name", [*CHANGES, "delete"])
def test_a_second_run_finds_nothing_to_do(queue: Queue, name: str) -> None:
    change, state, _ = CHANGES.get(name, (changes.delete(), State.BOUNCE, None))
    for number in range(10):
        put(queue, f"m{number}", state, attempts=1, retry_policy_name="x", next_retry=FUTURE)

    assert 10 == queue.change_all(change, EVERYTHING).changed
    assert 0 == queue.change_all(change, EVERYTHING).changed


def test_without_states_a_filter_means_those_that_the_change_is_for(queue: Queue) -> None:
    for state in set(State) - {State.ACTIVE}:
        put(queue, state.label, state)

    assert (1, 1, {}, {}) == counted(queue.change_all(changes.requeue(), EVERYTHING))
    assert State.BOUNCE is queue.get("bounce").state


def test_a_state_that_the_change_is_not_for_is_told(queue: Queue) -> None:
    put(queue, "a", State.BOUNCE)

    assert (1, 0, {"it's in bounce": 1}, {}) == counted(
        queue.change_all(changes.release(), Filter(states=(State.BOUNCE,)))
    )


def test_a_message_held_by_a_change_is_not_met_again(queue: Queue) -> None:
    for number in range(20):
        put(queue, f"m{number}")
    put(queue, "held", State.HOLD)

    assert (21, 20, {"nothing to change": 1}, {}) == counted(queue.change_all(changes.hold(), EVERYTHING))


def test_a_dry_run_counts_and_changes_nothing(queue: Queue) -> None:
    for number in range(30):
        put(queue, f"m{number:02}", State.HOLD)

    tally = queue.change_all(changes.delete(), EVERYTHING, dry_run=True)

    assert (30, 30, {}, {}) == counted(tally)
    assert 10 == len({record.id for record in tally.sample})
    assert 30 == queue.count(State.HOLD)


def test_a_message_that_a_worker_has_is_left_alone(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(gate := Gate())
    queue.enqueue(b"", message_id="a")
    queue.start()
    gate.wait_for(1)

    tally = queue.change_all(changes.delete(), EVERYTHING)
    gate.opened.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"])

    assert (1, 0, {"a worker has it": 1}, {}) == counted(tally)


def test_a_message_whose_worker_died_is_changed(queue: Queue) -> None:
    put(queue, "a", State.ACTIVE, claimed_from=State.DEFERRED, lease_owner="o", lease_expires=utc_now())

    assert 1 == queue.change_all(changes.hold(), EVERYTHING).changed
    assert (State.HOLD, "", None) == ((record := queue.get("a")).state, record.lease_owner, record.claimed_from)


class Meddling(MemoryMeta):
    """A store in which something happens just before each batch of writes."""

    meddle: Callable[[], object] = staticmethod(lambda: None)

    def apply(self, writes: Any) -> list[WriteResult]:
        self.meddle()
        return super().apply(writes)


@contextmanager
def meddled(meddle: Callable[[Queue], object]) -> Iterator[Queue]:
    meta = Meddling()
    with Queue(Spool(meta, MemoryData())) as queue:
        for name in ("a", "b", "c"):
            put(queue, name)
        meta.meddle = lambda: meddle(queue)
        yield queue


def test_a_message_that_changed_since_it_was_read_is_skipped_never_forced() -> None:
    with meddled(lambda queue: queue.spool.meta.update_meta("b", queue.get("b"))) as queue:
        tally = queue.change_all(changes.hold(), EVERYTHING)

        assert (3, 2, {"it changed meanwhile": 1}, {}) == counted(tally)
        assert State.INCOMING is queue.get("b").state


def test_a_message_that_is_gone_since_it_was_read_is_skipped() -> None:
    with meddled(lambda queue: queue.spool.meta.delete_meta("b")) as queue:
        assert (3, 2, {"it's gone meanwhile": 1}, {}) == counted(queue.change_all(changes.hold(), EVERYTHING))


class Failing(MemoryMeta):
    """A store that can't be reached for some messages."""

    unreachable: Collection[str] = ()

    def apply(self, writes: Any) -> list[WriteResult]:
        return [self._one(write) for write in writes]

    def _one(self, write: Write) -> WriteResult:
        message_id = write.metadata.id if isinstance(write, (Store, Update)) else write.message_id
        if message_id in self.unreachable:
            return BackendUnavailableError(f"message {message_id!r}: no answer", outcome="none")
        return super().apply([write])[0]


def test_a_failure_is_counted_by_its_error_and_stops_none_of_the_others() -> None:
    meta = Failing()
    with Queue(Spool(meta, MemoryData())) as queue:
        for name in ("a", "b", "c"):
            put(queue, name)
        meta.unreachable = {"a", "b"}

        assert (3, 1, {}, {"message …: no answer": 2}) == counted(queue.change_all(changes.hold(), EVERYTHING))


def test_a_store_that_cannot_be_reached_at_all_ends_the_run() -> None:
    meta = Failing()
    with Queue(Spool(meta, MemoryData())) as queue:
        for name in ("a", "b", "c"):
            put(queue, name)
        meta.unreachable = {"a", "b", "c"}

        with pytest.raises(BackendUnavailableError):
            queue.change_all(changes.hold(), EVERYTHING)


def test_progress_is_told_after_each_batch(new_queue: NewQueue) -> None:
    queue = new_queue(batch_size=4)
    for number in range(10):
        put(queue, f"m{number}")
    told: list[int] = []

    queue.change_all(changes.hold(), EVERYTHING, progress=lambda tally: told.append(tally.changed))

    assert [4, 8, 10] == told


def test_what_is_interrupted_is_finished_by_a_second_run(new_queue: NewQueue) -> None:
    queue = new_queue(batch_size=4)
    for number in range(10):
        put(queue, f"m{number}")

    def interrupt(_: Tally) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        queue.change_all(changes.hold(), EVERYTHING, progress=interrupt)
    assert 4 == queue.count(State.HOLD)

    assert 6 == queue.change_all(changes.hold(), EVERYTHING).changed


def test_replayed_messages_become_due_at_the_rate_that_is_asked_for(queue: Queue) -> None:
    for number in range(10):
        put(queue, f"m{number}", State.BOUNCE, attempts=10)
    before = utc_now()

    queue.change_all(changes.retry(), EVERYTHING, per_second=0.5)

    due = sorted(record.next_retry for record in queue.iter(State.INCOMING))
    assert [timedelta(seconds=2 * number) for number in range(10)] == [each - due[0] for each in due]
    assert before <= due[0] <= utc_now()
    assert {0} == {record.attempts for record in queue.iter(State.INCOMING)}


@pytest.mark.parametrize(("change", "rate"), [(changes.retry(), 0), (changes.hold(), 1)])
def test_a_rate_that_makes_no_sense_is_refused(queue: Queue, change: Change, rate: float) -> None:
    with pytest.raises(InvalidOptionError, match="per_second"):
        queue.change_all(change, EVERYTHING, per_second=rate)


def test_a_policy_must_be_there(new_queue: NewQueue) -> None:
    queue = new_queue(policies={"fast": FixedRetry(1)})
    put(queue, "a")

    assert 1 == queue.change_all(changes.set_retry_policy("fast"), EVERYTHING).changed
    with pytest.raises(InvalidOptionError, match="'lost'"):
        queue.change_all(changes.set_retry_policy("lost"), EVERYTHING)
    with pytest.raises(InvalidOptionError, match="priority"):
        changes.set_priority(101)


def test_what_comes_before_a_change_decides_which_are_made(queue: Queue) -> None:
    for name in ("a", "b", "c"):
        put(queue, name)
    seen: list[str] = []

    def before(records: Any) -> list[MessageMetadata]:
        seen.extend(record.id for record in records)
        return [record for record in records if record.id != "b"]

    tally = queue.change_all(changes.delete(), EVERYTHING, before=before)

    assert ["a", "b", "c"] == sorted(seen)
    assert (2, "b") == (tally.changed, queue.get("b").id)


def test_two_processes_that_make_the_same_change_share_it(tmp_path: Path) -> None:
    urls = (f"fs:{tmp_path}/meta?sync=performance", f"fs:{tmp_path}/data?sync=performance")
    with Queue.open(meta=urls[0], data=urls[1]) as queue:
        for number in range(200):
            put(queue, f"m{number}")
        with processes(2) as started:
            for process in started:
                process.begin("bulk_works:hold_all", *urls)
            done: list[Any] = [process.line() for process in started]

        assert 200 == sum(each["changed"] for each in done)
        assert [0, 0] == [each["failed"] for each in done]
        assert 200 == queue.count(State.HOLD)


def test_a_change_beside_a_worker_loses_nothing(new_queue: NewQueue) -> None:
    queue = new_queue(on_success="archive", batch_size=5)
    delivered: list[str] = []
    lock = threading.Lock()

    @queue.handler
    def handle(message: Any, _payload: Any) -> None:
        with lock:
            delivered.append(message.id)

    for number in range(300):
        put(queue, f"m{number}")
    queue.start()
    tally = queue.change_all(changes.hold(), Filter(states=(State.INCOMING, State.DEFERRED)))
    wait_until(lambda: queue.count(State.HOLD) + queue.count(State.ARCHIVED) == 300)

    assert tally.changed == queue.count(State.HOLD)
    assert len(delivered) == len(set(delivered)) == queue.count(State.ARCHIVED)


def test_bounced_messages_are_pruned_by_age(new_queue: NewQueue) -> None:
    queue = new_queue(bounce_retention_s=3600, batch_size=3)
    for number in range(10):
        put(queue, f"old-{number}", State.BOUNCE)
        put(queue, f"archived-{number}", State.ARCHIVED)
    meta = queue.spool.meta
    assert isinstance(meta, MemoryMeta)
    for record in meta._shared.records.values():
        object.__setattr__(record, "updated", utc_now() - timedelta(hours=2))
    put(queue, "new", State.BOUNCE)

    assert 10 == queue.prune()
    assert ["new"] == [record.id for record in queue.iter(State.BOUNCE)]
    assert 10 == queue.count(State.ARCHIVED)


def test_a_worker_prunes_bounced_messages_by_itself(new_queue: NewQueue) -> None:
    queue = new_queue(unchecked={"prune_interval_s": 0.01, "bounce_retention_s": 0.01})
    queue.add_handler(Recorder())
    put(queue, "a", State.BOUNCE)

    with queue:
        wait_until(lambda: queue.counters.snapshot()["pruned"] == 1)


def test_very_many_are_pruned_in_small_batches(new_queue: NewQueue) -> None:
    meta = Meddling(MemoryMetaFactory().create()._shared)
    queue = new_queue(spool=Spool(meta, MemoryData()), retention_s=3600)
    batches: list[None] = []
    for number in range(20_000):
        meta.store_meta(f"m{number}", MessageMetadata(f"m{number}", state=State.ARCHIVED))
    for record in meta._shared.records.values():
        object.__setattr__(record, "updated", utc_now() - timedelta(hours=2))
    meta.meddle = lambda: batches.append(None)

    assert 20_000 == queue.prune()
    assert 200 == len(batches)
