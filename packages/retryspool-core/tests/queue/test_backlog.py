from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from minimal_backends import MinimalMetaFactory
from queues import NewQueue, wait_until

from retryspool import MessageMetadata, Queue, Spool, State
from retryspool.memory import MemoryData
from retryspool.model import replace
from retryspool.queue.backlog import read_backlog
from retryspool.queue.latest import Latest


def put(queue: Queue, message_id: str, state: State, due: timedelta) -> MessageMetadata:
    queue.enqueue(b"", message_id=message_id)
    record = queue.spool.get(message_id)
    return queue.spool.meta.update_meta(message_id, replace(record, state=state, next_retry=datetime.now(UTC) + due))


def test_the_backlog_has_the_count_of_each_state_and_how_long_its_oldest_is_due(queue: Queue) -> None:
    put(queue, "a", State.DEFERRED, timedelta(hours=-2))
    put(queue, "b", State.DEFERRED, timedelta(hours=-1))
    put(queue, "c", State.INCOMING, timedelta(hours=1))
    put(queue, "d", State.HOLD, timedelta(hours=-9))

    backlog = read_backlog(queue.spool.meta)

    assert {State.DEFERRED: 2, State.INCOMING: 1, State.HOLD: 1} == {s: n for s, n in backlog.counts.items() if n}
    assert set(State) == set(backlog.counts)
    assert 7200 == pytest.approx(backlog.overdue_s[State.DEFERRED], abs=60)
    assert {State.INCOMING: 0, State.ACTIVE: 0, State.BOUNCE: 0} == {
        state: overdue for state, overdue in backlog.overdue_s.items() if state is not State.DEFERRED
    }


@pytest.mark.parametrize("path", ["memory", "files"])
def test_what_is_due_at_once_is_due_since_it_was_written(path: str, queue: Queue, tmp_path: Path) -> None:
    if path == "files":
        queue = Queue.open(tmp_path)
    with queue:
        first = queue.enqueue(b"")
        later = queue.enqueue(b"", not_before=3600)
        wait_until(lambda: (datetime.now(UTC) - first.created).total_seconds() > 0.2)
        queue.enqueue(b"")
        overdue = read_backlog(queue.spool.meta).overdue_s[State.INCOMING]

        assert 0.2 < overdue <= (datetime.now(UTC) - first.created).total_seconds()
        queue.delete(first.id)
        assert read_backlog(queue.spool.meta).overdue_s[State.INCOMING] < overdue
        assert later.id in queue.list(State.INCOMING).message_ids


def test_of_very_many_that_are_due_at_once_a_part_is_looked_at(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retryspool.queue.backlog._MANY", 2)
    first = queue.enqueue(b"", message_id="z")
    wait_until(lambda: (datetime.now(UTC) - first.created).total_seconds() > 0.2)
    for _ in range(3):
        queue.enqueue(b"")
    monkeypatch.setattr(queue.spool.meta, "list_messages", None)

    assert 0.2 < read_backlog(queue.spool.meta).overdue_s[State.INCOMING] < 60


def test_a_bounce_that_is_kept_is_not_due(queue: Queue) -> None:
    @queue.bounce_handler
    def keep(_message: object, _payload: object) -> None:
        pass

    queue.enqueue(b"", message_id="m")
    queue.bounce("m")
    queue.run(until_idle=True)

    backlog = read_backlog(queue.spool.meta)
    assert (1, 0) == (backlog.counts[State.BOUNCE], backlog.overdue_s[State.BOUNCE])


def test_a_backend_that_counts_by_listing_tells_no_age(new_queue: NewQueue) -> None:
    queue = new_queue(spool=Spool(MinimalMetaFactory().create(), MemoryData()))
    queue.enqueue(b"")

    backlog = read_backlog(queue.spool.meta)

    assert 1 == backlog.counts[State.INCOMING]
    assert {} == backlog.overdue_s


def test_a_reading_is_kept_until_it_is_too_old() -> None:
    calls: list[int] = []
    lasting = Latest(lambda: calls.append(1) or len(calls), max_age_s=3600)
    fleeting = Latest(lambda: calls.append(1) or len(calls), max_age_s=0)

    assert [1, 1, 1] == [lasting.get(20).value for _ in range(3)]
    assert 2 == fleeting.get(20).value
    wait_until(lambda: (fleeting.get(20).value or 0) > 2)


def test_a_call_that_hangs_lets_others_go_on_with_what_is_known() -> None:
    go, hang = threading.Event(), threading.Event()
    calls: list[int] = []

    def read() -> int:
        calls.append(1)
        if hang.is_set():
            go.wait(20)
        return len(calls)

    latest = Latest(read, max_age_s=0)
    assert 1 == latest.get(20).value
    hang.set()
    wait_until(lambda: latest.get(0) and len(calls) == 2)
    before = threading.active_count()

    readings = [latest.get(0.001) for _ in range(100)]

    assert {1} == {reading.value for reading in readings}
    assert readings[-1].age_s is not None
    assert readings[0].age_s is not None
    assert readings[-1].age_s > readings[0].age_s
    assert 2 == len(calls)
    assert threading.active_count() <= before
    go.set()
    wait_until(lambda: (latest.get(20).value or 0) >= 2)


def test_an_error_is_told_beside_what_was_known_before() -> None:
    fails = threading.Event()

    def read() -> str:
        if fails.is_set():
            raise OSError("gone")
        return "there"

    latest = Latest(read, max_age_s=0)
    assert ("there", None) == (latest.get(20).value, latest.get(20).error)
    fails.set()
    wait_until(lambda: latest.get(20).error)

    reading = latest.get(20)
    assert ("there", "gone") == (reading.value, str(reading.error))
    fails.clear()
    wait_until(lambda: latest.get(20).error is None)


def test_a_call_that_failed_is_made_again_at_once_however_long_it_took() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        threading.Event().wait(0.3)  # which would make one that succeeds rest for six seconds
        raise OSError("gone")

    latest = Latest(fail, max_age_s=0)
    for _ in range(3):
        latest.get(20)

    assert 3 == len(calls)


def test_one_that_was_never_read_has_no_age() -> None:
    def fail() -> str:
        raise OSError("gone")

    reading = Latest(fail).get(20)

    assert (None, None, "gone") == (reading.value, reading.age_s, str(reading.error))
