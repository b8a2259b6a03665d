from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from backends import new_namespace
from minimal_backends import MinimalMeta
from queues import Gate, NewQueue, Recorder, wait_until

from retryspool import ZERO_TIME, CorruptRecordError, NotSupportedError, Queue, Spool, State
from retryspool.memory import MemoryData
from retryspool.meta import NoteKeeper
from retryspool.model import utc_now
from retryspool.queue.capacity import Capacity


@pytest.fixture(params=["memory", "fs", "redis"])
def two(request: pytest.FixtureRequest, new_queue: NewQueue, tmp_path: Path) -> Iterator[tuple[Queue, Queue]]:
    """A worker's queue and an operator's, on one store."""
    if request.param == "memory":
        yield new_queue(poll_s=1), new_queue()
        return
    meta = f"fs:{tmp_path}/meta?sync=performance"
    if request.param == "redis":
        meta = f"{request.getfixturevalue('redis_url')}?namespace={new_namespace()}"
    data = f"fs:{tmp_path}/data?sync=performance"
    with Queue.open(meta=meta, data=data, poll_s=1) as worker, Queue.open(meta=meta, data=data) as operator:
        yield worker, operator


def test_nothing_is_claimed_from_a_paused_spool_until_it_is_resumed(two: tuple[Queue, Queue]) -> None:
    worker, operator = two
    worker.add_handler(recorder := Recorder())
    operator.pause()
    operator.enqueue(b"", message_id="a")

    worker.run(until_idle=True)
    assert [] == recorder.ids
    with worker:
        worker.spool.meta.wait_for_change(0.2)
        assert State.INCOMING is operator.get("a").state
        assert operator.resume()
        recorder.wait_for(1)


def test_a_paused_route_waits_while_the_others_go_on(two: tuple[Queue, Queue]) -> None:
    worker, operator = two
    worker.add_handler(recorder := Recorder())
    operator.pause("there", by="me", reason="it's down")
    for number in range(10):
        operator.enqueue(b"", message_id=f"there{number}", route="there")
        operator.enqueue(b"", message_id=f"here{number}", route="here")

    worker.run(until_idle=True)
    assert {f"here{number}" for number in range(10)} == set(recorder.ids)

    operator.resume("there")
    worker.run(until_idle=True)
    assert 20 == len(set(recorder.ids))


def test_a_pause_tells_since_when_by_whom_and_why(two: tuple[Queue, Queue]) -> None:
    worker, operator = two
    before = utc_now()

    operator.pause(by="me", reason="moving house — 引っ越し")
    operator.pause("b", by="you", reason="b")
    operator.pause("a")
    operator.pause("b", by="us", reason="still")

    paused = worker.paused()
    assert paused.spool is not None
    assert ("me", "moving house — 引っ越し") == (paused.spool.by, paused.spool.reason)
    assert before <= paused.spool.since <= utc_now()
    assert {"a", "b"} == set(paused.routes) == paused.exclusions()
    assert ("us", "still") == (paused.routes["b"].by, paused.routes["b"].reason)


def test_routes_stay_paused_when_the_spool_is_resumed(queue: Queue) -> None:
    queue.pause("a")
    queue.pause()

    assert queue.resume()
    assert not queue.resume()
    assert {"a"} == set(queue.paused().routes)
    assert queue.resume("a")
    assert not queue.resume("a")
    assert (None, {}) == (queue.paused().spool, queue.paused().routes)
    assert isinstance(queue.spool.meta, NoteKeeper)
    assert {} == queue.spool.meta.get_notes()


def test_what_is_claimed_but_has_not_begun_is_given_back(new_queue: NewQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Capacity, "_look_ahead", lambda capacity: setattr(capacity, "_ahead", 100))
    queue = new_queue(concurrency=1, on_success="archive", poll_s=1)
    queue.add_handler(gate := Gate())
    for number in range(3):
        queue.enqueue(b"", message_id=f"m{number}")
    queue.start()
    gate.wait_for(1)
    wait_until(lambda: queue.count(State.ACTIVE) == 3)
    queue.pause()
    wait_until(lambda: queue._worker is not None and queue._worker._dispatcher._paused.spool)
    gate.opened.set()
    wait_until(lambda: queue.count(State.ACTIVE) == 0)

    assert (1, 2) == (queue.count(State.ARCHIVED), queue.count(State.INCOMING))
    assert {0} == {record.deliveries for record in queue.iter(State.INCOMING)}
    queue.resume()
    wait_until(lambda: queue.count(State.ARCHIVED) == 3)


def test_a_store_without_notes_says_that_it_cannot_be_paused() -> None:
    with Queue(Spool(MinimalMeta({}, threading.RLock()), MemoryData())) as queue:
        queue.add_handler(recorder := Recorder())
        for pause in (queue.pause, queue.resume, queue.resume_all, lambda: queue.pause("a")):
            with pytest.raises(NotSupportedError, match="MinimalMeta keeps no notes"):
                pause()
        assert (None, {}) == (queue.paused().spool, queue.paused().routes)
        queue.enqueue(b"", message_id="a")
        queue.run(until_idle=True)
        assert ["a"] == recorder.ids


def test_a_spool_whose_note_cannot_be_read_is_paused(queue: Queue) -> None:
    assert isinstance(queue.spool.meta, NoteKeeper)
    for note in ("", "{", "7", '{"since": "soon"}'):
        queue.spool.meta.set_note("pause", note)

        paused = queue.paused()

        assert paused.spool is not None
        assert ZERO_TIME == paused.spool.since
    queue.spool.meta.set_note("pause", json.dumps({"since": "2030-01-31T08:00:00"}))
    assert (paused := queue.paused().spool) is not None
    assert datetime(2030, 1, 31, 8, tzinfo=UTC) == paused.since


def test_routes_whose_note_cannot_be_read_are_all_resumed_or_none(queue: Queue) -> None:
    assert isinstance(queue.spool.meta, NoteKeeper)
    queue.spool.meta.set_note("pause.routes", "{")

    for use in (queue.paused, lambda: queue.pause("a"), lambda: queue.resume("a")):
        with pytest.raises(CorruptRecordError, match="resume all"):
            use()
    queue.resume_all()

    assert {} == queue.paused().routes


def test_a_worker_that_cannot_read_which_routes_are_paused_claims_nothing(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(recorder := Recorder())
    assert isinstance(queue.spool.meta, NoteKeeper)
    queue.spool.meta.set_note("pause.routes", "{")
    queue.enqueue(b"")
    with queue:
        queue.spool.meta.wait_for_change(0.1)
        assert 1 == queue.count(State.INCOMING)
        queue.resume_all()
        recorder.wait_for(1)
