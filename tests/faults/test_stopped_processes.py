"""A process is stopped with a lock of the spool's files held: workers in others go on with all that it doesn't need."""

from __future__ import annotations

import threading
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest
from processes import processes
from queues import Recorder, wait_until
from stopped_works import on_the_stripe_of

from retryspool import Message, MessageMetadata, MessageNotFoundError, Queue, State
from retryspool.model import utc_now

LOCKED = "locked"
(BESIDE,) = islice(on_the_stripe_of(LOCKED, "beside"), 1)
EARLY = [f"early{number}" for number in range(20)]
LATE = [f"late{number}" for number in range(20)]


@pytest.mark.parametrize("at", [1, 2], ids=["before its change", "in the middle of it"])
def test_a_worker_delivers_all_messages_but_those_that_a_stopped_process_has_locked(tmp_path: Path, at: int) -> None:
    meta, data = f"fs:{tmp_path}/meta?sync=performance", f"fs:{tmp_path}/data?sync=performance"
    with processes(2) as (stopped, worker), Queue.open(meta=meta, data=data) as queue:
        for message_id in (LOCKED, BESIDE, *EARLY):
            queue.enqueue(b"", message_id=message_id)
        stopped.begin("stopped_works:move_and_stop", f"{tmp_path}/meta", LOCKED, at)
        stopped.wait_until_stopped()

        worker.begin("stopped_works:work", meta, data, 1 + len(EARLY) + len(LATE))
        assert sorted(EARLY) == sorted(str(worker.line()) for _ in EARLY)
        for message_id in LATE:
            queue.enqueue(b"", message_id=message_id)
        assert sorted(LATE) == sorted(str(worker.line()) for _ in LATE)

        stopped.go_on()
        assert 2 == stopped.line()
        assert BESIDE == worker.line()
        assert ["stopped"] == worker.line()
        assert [(LOCKED,), ()] == [queue.list(state).message_ids for state in (State.HOLD, State.INCOMING)]


def test_a_message_that_is_being_delivered_is_settled_once_the_process_that_locked_it_goes_on(tmp_path: Path) -> None:
    """Its worker tries again and again, and delivers the others meanwhile."""
    meta, data = f"fs:{tmp_path}/meta?sync=performance&lock_timeout=0.5", f"fs:{tmp_path}/data?sync=performance"
    begun, stopping = threading.Event(), threading.Event()

    def deliver(message: Message) -> None:
        if message.id == BESIDE:
            begun.set()
            stopping.wait()

    with processes(1) as (stopped,), Queue.open(meta=meta, data=data) as queue:
        queue.spool.meta.store_meta(LOCKED, MessageMetadata(LOCKED, next_retry=utc_now() + timedelta(hours=1)))
        queue.enqueue(b"", message_id=BESIDE)
        queue.add_handler(recorder := Recorder(then=deliver))
        queue.start()
        begun.wait()
        stopped.begin("stopped_works:move_and_stop", f"{tmp_path}/meta", LOCKED, 1)
        stopped.wait_until_stopped()
        stopping.set()

        for message_id in EARLY:
            queue.enqueue(b"", message_id=message_id)
        wait_until(lambda: not queue.count(State.INCOMING) - 1 and queue.count(State.ACTIVE) == 1)
        assert State.ACTIVE is queue.get(BESIDE).state

        stopped.go_on()
        assert 2 == stopped.line()
        wait_until(lambda: not queue.count(State.ACTIVE))
        assert sorted([BESIDE, *EARLY]) == sorted(recorder.ids)
        with pytest.raises(MessageNotFoundError):
            queue.get(BESIDE)
