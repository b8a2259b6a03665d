"""What a worker does when a store fails it: goes on, tries again, and delivers nothing twice that it can help."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import pytest
from queues import PATIENCE_S, Gate, NewQueue, Recorder, wait_until

from retryspool import (
    BackendError,
    BackendUnavailableError,
    MessageMetadata,
    Spool,
    State,
    StorageError,
)
from retryspool.deadline import remaining
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.meta import Delete, Write, WriteResult


class FlakyMeta(MemoryMeta):
    """Records in memory, behind a connection that comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.refused = threading.Semaphore(0)

    def _fail(self) -> None:
        if self.error is not None:
            self.refused.release()
            raise self.error

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
        self._fail()
        return super().claim(
            sources,
            limit=limit,
            lease=lease,
            owner=owner,
            exclude_routes=exclude_routes,
            oldest_first=oldest_first,
        )

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        self._fail()
        return super().apply(writes)

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[MessageMetadata | StorageError]:
        self._fail()
        return super().renew(claims, lease=lease)


@pytest.mark.parametrize("error", [BackendUnavailableError("away", outcome="none"), RuntimeError("a bug")], ids=type)
def test_a_worker_outlives_a_store_that_fails(new_queue: NewQueue, error: Exception) -> None:
    meta = FlakyMeta()
    queue = new_queue(spool=Spool(meta, MemoryData()), poll_s=3600)
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"", message_id="a")
    meta.error = error
    queue.start()
    for _ in range(3):
        assert meta.refused.acquire(timeout=PATIENCE_S)

    meta.error = None

    recorder.wait_for(1)
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 1)


@pytest.mark.parametrize("outcome", ["none", "unknown"])
def test_a_result_waits_for_a_store_that_fails_and_is_not_delivered_again(new_queue: NewQueue, outcome: str) -> None:
    meta = FlakyMeta()
    queue = new_queue(spool=Spool(meta, MemoryData()))
    queue.add_handler(gate := Gate())
    queue.enqueue(b"", message_id="a")
    queue.start()
    gate.wait_for(1)
    meta.error = BackendUnavailableError("away", outcome=outcome)  # type: ignore[arg-type]
    gate.opened.set()
    for _ in range(2):
        assert meta.refused.acquire(timeout=PATIENCE_S)

    meta.error = None

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 1)
    assert (["a"], 0) == (gate.left, sum(queue.counts().values()))


class LosingMeta(MemoryMeta):
    """Records in memory, whose first deletion has its effect and no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = False

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        results = super().apply(writes)
        if not self.lost and any(isinstance(write, Delete) for write in writes):
            self.lost = True
            raise BackendUnavailableError("the answer was lost", outcome="unknown")
        return results


def test_a_deletion_whose_answer_was_lost_counts_as_done(new_queue: NewQueue) -> None:
    queue = new_queue(spool=Spool(LosingMeta(), MemoryData()))
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"")
    with queue:
        recorder.wait_for(1)
        wait_until(lambda: queue.counters.snapshot()["delivered"] == 1)

    assert 0 == queue.counters.snapshot()["lost_leases"]


class PoisonedMeta(MemoryMeta):
    """Records in memory, of which those named `poison` can't be settled."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.refusals = 0

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        poison = [isinstance(write, Delete) and write.message_id == "poison" for write in writes]
        if not any(poison):
            return super().apply(writes)
        self.refusals += 1
        if not isinstance(self.error, StorageError):
            raise self.error
        rest = iter(super().apply([write for write, bad in zip(writes, poison, strict=True) if not bad]))
        return [self.error if bad else next(rest) for bad in poison]


@pytest.mark.parametrize("error", [BackendError("no"), TypeError("a bug")], ids=["refused", "bug"])
def test_a_result_that_cannot_be_stored_holds_up_no_others_and_is_given_up_in_the_end(
    new_queue: NewQueue, error: Exception
) -> None:
    meta = PoisonedMeta(error)
    queue = new_queue(spool=Spool(meta, MemoryData()), unchecked={"lease_s": 1})
    queue.add_handler(recorder := Recorder())
    ids = ["poison", *(queue.enqueue(b"").id for _ in range(300))]
    queue.enqueue(b"", message_id="poison")
    with queue:
        wait_until(lambda: queue.counters.snapshot()["delivered"] == 300)
        recorder.wait_for(302)  # once its lease is over it's delivered again

    assert Counter([*ids, "poison"]) == Counter(recorder.ids[:302])
    assert meta.refusals > 1


class TimedMeta(MemoryMeta):
    """Records in memory, with how long the store was given for each batch of results."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[float | None] = []

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        self.given.append(remaining())
        return super().apply(writes)


@pytest.mark.parametrize(("lease_s", "most_s"), [(60, 20), (3, 1), (1, 1)])
def test_a_store_that_hangs_holds_up_renewals_for_a_third_of_a_lease_at_the_most(
    new_queue: NewQueue, lease_s: int, most_s: int
) -> None:
    meta = TimedMeta()
    queue = new_queue(spool=Spool(meta, MemoryData()), lease_s=lease_s)
    queue.add_handler(Recorder())
    queue.enqueue(b"")
    queue.run(until_idle=True)

    (given,) = meta.given
    assert given is not None
    assert 0 < given <= most_s


def test_a_payload_that_cannot_be_read_is_not_the_messages_fault(new_queue: NewQueue) -> None:
    class Unreadable(MemoryData):
        def get_data_reader(self, message_id: str) -> BinaryIO:  # noqa: ARG002 -- none can be read
            raise BackendError("the disk is away")

    queue = new_queue(spool=Spool(MemoryMeta(), Unreadable()))
    queue.add_handler(recorder := Recorder())
    stored = queue.enqueue(b"")

    queue.run(until_idle=True)

    after = queue.get(stored.id)
    assert [] == recorder.ids
    assert (State.DEFERRED, 0, 0) == (after.state, after.attempts, after.deliveries)
    assert "BackendError: the disk is away" == after.last_error
    assert after.next_retry > datetime.now(UTC)
