from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from backends import new_namespace
from kill_points import KillPoints
from minimal_backends import MinimalMeta
from processes import processes
from queues import Gate, Recorder, wait_until
from transfer_works import CREATED, DUE, STATES, migrate, opened, payload_of, prepare

from retryspool import (
    NEVER,
    ZERO_TIME,
    Filter,
    MessageExistsError,
    MessageMetadata,
    MessageNotFoundError,
    Queue,
    QueueError,
    Spool,
    State,
    StateConflictError,
)
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.meta import WriteResult
from retryspool.transfer import Migration, Moved
from retryspool.transfer.marks import ARRIVING, LEAVING, store_id

RECORD = MessageMetadata(
    "a",
    attempts=2,
    max_attempts=5,
    created=CREATED,
    last_error="no answer",
    priority=3,
    retry_policy_name="p",
    deliveries=3,
    route="r",
)


@pytest.fixture
def source() -> Iterator[Spool]:
    with Spool(MemoryMeta(), MemoryData()) as spool:
        yield spool


@pytest.fixture
def target() -> Iterator[Spool]:
    with Spool(MemoryMeta(), MemoryData()) as spool:
        yield spool


def put(spool: Spool, message_id: str, state: State = State.INCOMING, **fields: Any) -> MessageMetadata:
    return spool.enqueue(MessageMetadata(message_id, state=state, **fields), payload_of(message_id), is_new=True)


def contents(spool: Spool) -> dict[str, MessageMetadata]:
    """Return all messages; each is there once, with its payload, and nothing else is."""
    records = [record for state in State for record in spool.meta.iter_messages(state)]
    assert len(records) == len({record.id for record in records})
    assert {record.id for record in records} == {info.message_id for info in spool.data.iter_data()}
    for record in records:
        with spool.open_payload(record) as payload:
            assert payload_of(record.id) == payload.read()
    return {record.id: record for record in records}


def same(record: MessageMetadata) -> MessageMetadata:
    """Return what is the same wherever a message is."""
    return replace(record, version=0, updated=ZERO_TIME)


@pytest.mark.parametrize("pair", ["memory to fs", "fs to redis", "redis to memory"])
def test_all_messages_are_moved_as_they_are(request: pytest.FixtureRequest, tmp_path: Path, pair: str) -> None:
    def open_one(name: str) -> Spool:
        if name == "memory":
            return Spool(MemoryMeta(), MemoryData())
        meta = f"fs:{tmp_path}/{name}/meta?sync=performance"
        if name == "redis":
            meta = f"{request.getfixturevalue('redis_url')}?namespace={new_namespace()}"
        return Spool.open(meta=meta, data=f"fs:{tmp_path}/{name}/data?sync=performance")

    first, _, second = pair.partition(" to ")
    with open_one(first) as source, open_one(second) as target:
        for state in STATES:
            for number in range(7):
                due = NEVER if number else DUE
                headers = {"to": "ä", "x-retryspool-bounce-error": "e"}
                record = replace(RECORD, id=f"{state}-{number}", state=state, next_retry=due, headers=headers)
                source.enqueue(record, payload_of(record.id), is_new=True)
        expected = {message_id: same(record) for message_id, record in contents(source).items()}

        moved = Migration(source, target, batch_size=4).run()

        assert (35, {}) == (moved.messages, dict(moved.failed))
        assert expected == {message_id: same(record) for message_id, record in contents(target).items()}
        assert {} == contents(source)


def test_a_large_payload_is_streamed(source: Spool, target: Spool) -> None:
    large = b"0123456789abcdef" * 20_000
    source.enqueue(MessageMetadata("large"), large, is_new=True)

    assert len(large) == Migration(source, target).run().size
    with target.open_payload(target.get("large")) as payload:
        assert large == payload.read()


def test_a_dry_run_counts(source: Spool, target: Spool) -> None:
    for number in range(5):
        put(source, f"m{number}")

    assert (5, 5 * len("payload of m0")) == ((moved := Migration(source, target).count()).messages, moved.size)
    assert 5 == len(contents(source))


def test_only_what_a_filter_means_is_moved(source: Spool, target: Spool) -> None:
    put(source, "a", State.HOLD, route="x")
    put(source, "b", State.HOLD, route="y")
    put(source, "c", State.DEFERRED, route="x")

    Migration(source, target, Filter(states=(State.HOLD,), routes=("x",))).run()

    assert {"a"} == set(contents(target))
    assert {"b", "c"} == set(contents(source))


def test_a_message_that_a_worker_has_stays_until_that_is_done(source: Spool, target: Spool) -> None:
    put(source, "a")
    with Queue(source) as queue:
        queue.add_handler(gate := Gate())
        queue.start()
        gate.wait_for(1)

        moved = Migration(source, target).run()
        gate.opened.set()
        wait_until(lambda: queue.counters.snapshot()["delivered"])

        assert (0, 1) == (moved.messages, moved.busy)
        assert {} == contents(target)


def test_a_message_whose_worker_died_is_moved_to_where_it_was(source: Spool, target: Spool) -> None:
    over = datetime.now(UTC)
    put(source, "a", State.ACTIVE, claimed_from=State.DEFERRED, lease_owner="o", lease_expires=over, deliveries=2)

    Migration(source, target).run()

    record = contents(target)["a"]
    assert (State.DEFERRED, "", ZERO_TIME, None, 2) == (
        record.state, record.lease_owner, record.lease_expires, record.claimed_from, record.deliveries,
    )  # fmt: skip


def test_a_message_that_is_at_the_target_already_stays_and_is_told(source: Spool, target: Spool) -> None:
    put(source, "a")
    put(source, "b")
    put(target, "a", State.HOLD)

    moved = Migration(source, target).run()

    assert (1, {"message … exists already": 1}) == (moved.messages, dict(moved.failed))
    assert {"a"} == set(contents(source))
    assert State.HOLD is contents(target)["a"].state


def test_a_payload_that_is_not_what_was_handed_in_is_not_moved(source: Spool, target: Spool) -> None:
    for message_id in ("small", "gone"):
        put(source, message_id)
    source.enqueue(MessageMetadata("large"), b"x" * 100_000, is_new=True)
    source.data.store_data("small", b"something else")
    source.data.store_data("large", b"y" * 100_000)
    source.data.delete_data("gone")

    moved = Migration(source, target).run()

    assert (0, 3) == (moved.messages, moved.failed.total())
    assert {} == contents(target)
    assert 3 == source.meta.list_messages(State.INCOMING).total


def test_an_orphan_at_the_target_is_in_nobodys_way(source: Spool, target: Spool) -> None:
    put(source, "a")
    target.data.store_data("a", b"half of a pay")

    assert 1 == Migration(source, target).run().messages
    assert {"a"} == set(contents(target))


class Meddling(MemoryMeta):
    """A store in which something happens just before each batch of writes."""

    meddle: Any = staticmethod(lambda: None)

    def apply(self, writes: Any) -> list[WriteResult]:
        self.meddle()
        return super().apply(writes)


def test_a_message_that_changes_while_it_is_copied_is_copied_anew(target: Spool) -> None:
    meta = Meddling()
    with Spool(meta, MemoryData()) as source:
        put(source, "a")
        meta.meddle = lambda: meta.update_meta("a", replace(meta.get_meta("a"), last_error="changed"))
        first = iter([meta.meddle])
        meta.meddle = lambda: [change() for change in itertools.islice(first, 1)]

        moved = Migration(source, target).run()
        again = Migration(source, target).run()

        assert 1 == moved.messages + again.messages
        assert "changed" == contents(target)["a"].last_error
        assert {} == contents(source)


def test_a_store_is_not_moved_to_itself(source: Spool) -> None:
    put(source, "a")

    with pytest.raises(QueueError, match="the same store"):
        Migration(source, source).run()


def test_stores_that_keep_no_notes_are_moved_too(target: Spool) -> None:
    with Spool(MinimalMeta({}, threading.RLock()), MemoryData()) as source:
        put(source, "a")
        assert 1 == Migration(source, target).run().messages
    assert {"a"} == set(contents(target))


def test_what_is_on_its_way_to_another_store_is_not_forgotten(source: Spool, target: Spool) -> None:
    put(source, "a")
    put(source, "b")

    def stop(_: Moved) -> None:
        raise KeyboardInterrupt

    migration = Migration(source, target, batch_size=1)
    migration._arrive = stop  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        migration.run()
    with Spool(MemoryMeta(), MemoryData()) as other, pytest.raises(QueueError, match="finish that migration first"):
        Migration(source, other).run()

    assert (1, 1) == ((moved := Migration(source, target).run()).finished, moved.messages)
    assert {"a", "b"} == set(contents(target))


def test_what_comes_from_another_store_is_left_alone(source: Spool, target: Spool) -> None:
    put(source, "a")
    migration = Migration(source, target)
    migration._leave = lambda *_: {}  # type: ignore[method-assign]
    migration.run()
    assert ARRIVING in contents(target)["a"].headers

    with Spool(MemoryMeta(), MemoryData()) as other:
        Migration(other, target).run()
    assert 1 == Migration(source, target).run().begun_anew
    assert {"a"} == set(contents(target))
    assert State.INCOMING is contents(target)["a"].state


def test_a_run_that_another_has_overtaken_loses_nothing(source: Spool, target: Spool) -> None:
    """One is held between its first two writes, while another begins, takes its copy back, and moves the message."""
    put(source, "a")
    slow = Migration(source, target)
    leave = slow._leave
    slow._leave = lambda *given: (Migration(source, target).run(), leave(*given))[1]  # type: ignore[method-assign]

    slow.run()

    assert {"a"} == set(contents(target))
    assert State.INCOMING is contents(target)["a"].state
    assert {} == contents(source)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_that_is_slow_takes_no_copy_for_its_own(source: Spool, target: Spool, steps: int) -> None:
    """One is held between its first two writes, while another comes so far, and is killed then."""
    put(source, "a")
    slow, other = Migration(source, target), Migration(source, target)
    leave = slow._leave

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    def held(*given: Any) -> Any:
        changed = source.meta.update_meta("a", replace(source.get("a"), state=State.HOLD))
        setattr(other, ("_leave", "_arrive", "_sweep")[steps - 1], stop)
        with pytest.raises(KeyboardInterrupt):
            other.run()
        assert changed.version > 1
        return leave(*given)

    slow._leave = held  # type: ignore[method-assign]
    slow.run()
    Migration(source, target).run()

    assert {"a"} == set(contents(target))
    assert State.HOLD is contents(target)["a"].state
    assert {} == contents(source)


def test_a_copy_is_taken_over_while_its_original_leaves(source: Spool, target: Spool) -> None:
    put(source, "a")
    first, second = Migration(source, target), Migration(source, target)
    arrive = first._arrive
    record = source.get("a")

    def held(arrived: Any) -> None:
        there = target.get("a")
        target.meta.update_meta("a", there, if_version=there.version)  # as a run does that has read it before
        arrive(arrived)

    first._arrive = held  # type: ignore[method-assign]
    first.run()

    assert State.INCOMING is contents(target)["a"].state
    assert isinstance(second._taken_over(record, store_id(source.meta), MessageExistsError("a")), MessageExistsError)


def test_a_copy_is_not_made_older_than_it_is(source: Spool, target: Spool) -> None:
    """One has read the original, and finds the copy of a later version of it, which is about to arrive."""
    old = put(source, "a")
    source.meta.update_meta("a", replace(old, state=State.HOLD))
    other = Migration(source, target)
    other._leave = lambda *_: {}  # type: ignore[method-assign]
    other.run()
    copied = target.get("a")

    result = Migration(source, target)._taken_over(old, store_id(source.meta), MessageExistsError("a"))

    assert isinstance(result, MessageNotFoundError)
    assert copied == target.get("a")


def test_a_copy_whose_original_was_delivered_is_removed(source: Spool, target: Spool) -> None:
    put(source, "a")
    migration = Migration(source, target)
    leave = migration._leave
    migration._leave = lambda *given: (source.delete("a"), leave(*given))[1]  # type: ignore[method-assign]

    migration.run()

    assert {} == contents(target) == contents(source)


def test_a_copy_of_another_message_of_the_same_id_is_told(source: Spool, target: Spool) -> None:
    put(source, "a")
    migration = Migration(source, target)
    migration._leave = lambda *_: {}  # type: ignore[method-assign]
    migration.run()
    source.delete("a")
    source.enqueue(MessageMetadata("a"), b"another", is_new=True)

    assert {"message … exists already": 1} == dict(Migration(source, target).run().failed)
    assert State.INCOMING is source.get("a").state


def test_what_comes_later_is_followed(source: Spool, target: Spool) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=Migration(source, target).run, kwargs={"follow": True, "stop": stop})
    thread.start()
    try:
        for number in range(5):
            put(source, f"m{number}")
            wait_until(lambda: target.meta.list_messages(State.INCOMING).total == number + 1)  # noqa: B023
    finally:
        stop.set()
        thread.join(10)
    assert 5 == len(contents(target))


def test_nothing_on_its_way_is_delivered_or_changed_by_hand(source: Spool, target: Spool) -> None:
    put(source, "a")
    migration = Migration(source, target)
    migration._arrive = lambda _: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        migration.run()
    for spool, header in ((source, LEAVING), (target, ARRIVING)):
        assert header in spool.get("a").headers
        queue = Queue(spool)
        queue.add_handler(recorder := Recorder())
        queue.add_bounce_handler(recorder)
        queue.run(until_idle=True)
        assert [] == recorder.ids
        for change in (queue.hold, queue.release, queue.retry, queue.delete):
            with pytest.raises(StateConflictError):
                change("a")
    Migration(source, target).run()
    assert {"a"} == set(contents(target))


@pytest.mark.timeout(240)
def test_a_run_that_is_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepare(str(prepared / "source"), 1)
    opened(str(prepared / "target")).close()
    number = 0
    with KillPoints() as kill_points:
        for number in itertools.count(1, 3):
            folder = shutil.copytree(prepared, tmp_path / str(number))
            there = (str(folder / "source"), str(folder / "target"))
            death = kill_points.run("transfer_works:migrate", *there, at=number)
            with opened(there[0]) as source, opened(there[1]) as target:
                visible = [r.id for spool in (source, target) for s in STATES for r in spool.meta.iter_messages(s)]
                assert len(visible) == len(set(visible)), "in one store at most"
            migrate(*there)
            with opened(there[0]) as source, opened(there[1]) as target:
                list(target.reconcile(grace=timedelta(0)))
                list(source.reconcile(grace=timedelta(0)))
                found = contents(target)
                assert {f"{state}-0": state for state in STATES} == {i: record.state for i, record in found.items()}
                assert {DUE} == {record.next_retry for record in found.values()}
                assert {} == contents(source)
            shutil.rmtree(folder)
            if death is None:
                break
    assert number > 100


@pytest.mark.timeout(180)
def test_beside_workers_and_kills_each_message_is_delivered_once(tmp_path: Path) -> None:
    source, target, log = str(tmp_path / "source"), str(tmp_path / "target"), str(tmp_path / "log")
    ids = {f"m{number}" for number in range(400)}
    with opened(source) as spool, opened(target), processes(4) as (here, there, first, second):
        for message_id in ids:
            put(spool, message_id)
        there.begin("transfer_works:work", target, log)
        first.begin("transfer_works:migrate", source, target)
        wait_until(lambda: Path(log).exists() and len(Path(log).read_text().split()) > 20)
        first.kill()
        here.begin("transfer_works:work", source, log)
        second.begin("transfer_works:migrate", source, target)
        second.line()
        # What the one that was killed had written and hadn't told the others of is found by a survey, once a minute.
        wait_until(lambda: len(Path(log).read_text().split()) >= len(ids), patience_s=100)
    with ExitStack() as stack:
        for spool in [stack.enter_context(opened(folder)) for folder in (source, target)]:
            list(spool.reconcile(grace=timedelta(0)))  # of the workers that were killed
            assert {State.ACTIVE} >= {record.state for record in contents(spool).values()}

    delivered = Path(log).read_text().split()
    assert ids == set(delivered)
    assert len(ids) == len(delivered)


@pytest.mark.timeout(180)
def test_runs_beside_each_other_that_are_killed_now_and_then_lose_nothing(tmp_path: Path) -> None:
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    ids = {f"m{number}" for number in range(600)}
    with opened(source) as here, opened(target) as there:
        for message_id in ids:
            put(here, message_id, State.HOLD)
        for round_ in range(1, 6):
            with processes(2) as both:
                for each in both:
                    each.begin("transfer_works:migrate", source, target)
                wait_until(lambda: there.meta.list_messages(State.HOLD).total > 80 * round_)  # noqa: B023
                both[round_ % 2].kill()
                wait_until(lambda: there.meta.list_messages(State.HOLD).total > 80 * round_ + 20)  # noqa: B023
        migrate(source, target)
        for spool in (here, there):
            list(spool.reconcile(grace=timedelta(0)))

        assert {} == contents(here)
        assert ids == set(contents(there))
        assert {State.HOLD} == {record.state for record in contents(there).values()}
