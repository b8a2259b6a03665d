"""A process is stopped in the middle of a change, as by SIGSTOP, swapping or a disk that hangs: the others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest
from processes import Process, processes
from stopped_works import on_the_stripe_of

from retryspool import deadline
from retryspool.errors import BackendUnavailableError, DeadlineExceededError, MessageExistsError
from retryspool.meta import Delete, Store, Update
from retryspool.model import MessageMetadata, Severity, State
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory

LEASE = timedelta(minutes=1)
LOCKED = "locked"
BESIDE, ANOTHER, NEW = islice(on_the_stripe_of(LOCKED, "beside"), 3)
"""Messages that have the same lock as the one that is being changed."""
FREE = ["a", "b", "c"]
SOON_S = 15.0
"""Far less than the time that a lock is waited for by default, and far more than what waits for nothing takes."""


def store(base: Path, *message_ids: str) -> None:
    with FsMetaFactory(base).create() as backend:
        for message_id in message_ids:
            backend.store_meta(message_id, MessageMetadata(message_id))


def process_stopped(base: Path, at: int) -> Iterator[Process]:
    store(base, LOCKED, BESIDE, ANOTHER, *FREE)
    with processes(1) as (other,):
        other.begin("stopped_works:move_and_stop", str(base), LOCKED, at)
        other.wait_until_stopped()
        yield other


@pytest.fixture
def stopped_early(base: Path) -> Iterator[Process]:
    """A process that has stopped before it changed a message: what the folders show is all in order."""
    yield from process_stopped(base, 1)


@pytest.fixture
def stopped(base: Path) -> Iterator[Process]:
    """A process that has stopped in the middle of moving a message to HOLD: all is written, and the file not moved."""
    yield from process_stopped(base, 2)


@pytest.fixture
def impatient(base: Path, stopped: Process) -> Iterator[FsMetaBackend]:  # noqa: ARG001 -- it is to be stopped by then
    with FsMetaFactory(base, lock_timeout=0.3).create() as backend:
        yield backend


def claim(backend: FsMetaBackend, limit: int = 100) -> list[str]:
    return [record.id for record in backend.claim([State.INCOMING], limit=limit, lease=LEASE, owner="w")]


@pytest.mark.usefixtures("stopped_early")
def test_a_claim_takes_the_other_messages_at_once(base: Path) -> None:
    with FsMetaFactory(base).create() as backend:
        started = time.monotonic()
        assert ["a", "b"] == claim(backend, 2)
        assert ["c"] == claim(backend)
        assert SOON_S > time.monotonic() - started


@pytest.mark.usefixtures("stopped_early")
def test_a_claim_that_finds_nothing_else_ends_and_the_next_one_does_not_wait(base: Path) -> None:
    with FsMetaFactory(base).create() as backend:
        claim(backend)
        started = time.monotonic()
        assert [[]] * 100 == [claim(backend) for _ in range(100)]  # of which the first waits for up to 5 s
        assert 2 * SOON_S > time.monotonic() - started


@pytest.mark.usefixtures("stopped_early")
def test_a_claim_that_waits_takes_what_comes_meanwhile(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retryspool_fs_meta.held._PATIENCE_S", 600.0)
    with FsMetaFactory(base, lock_timeout=3600).create() as backend:
        claim(backend)
        found: list[str] = []
        claimer = threading.Thread(target=lambda: found.extend(claim(backend)))
        claimer.start()
        backend.store_meta("new", MessageMetadata("new"))
        claimer.join(60)
        assert ["new"] == found


@pytest.mark.usefixtures("stopped_early")
def test_a_deadline_ends_the_wait_of_a_claim(base: Path) -> None:
    with FsMetaFactory(base).create() as backend:
        claim(backend)
        with deadline(0.2), pytest.raises(DeadlineExceededError):
            claim(backend)


SINGLE: dict[str, Callable[[FsMetaBackend], object]] = {
    "store": lambda backend: backend.store_meta(NEW, MessageMetadata(NEW)),
    "get": lambda backend: backend.get_meta(NEW),
    "update": lambda backend: backend.update_meta(BESIDE, MessageMetadata(BESIDE)),
    "move": lambda backend: backend.move_to_state(BESIDE, State.INCOMING, State.HOLD),
    "delete": lambda backend: backend.delete_meta(BESIDE),
}


@pytest.mark.parametrize("call", SINGLE)
def test_what_needs_the_lock_says_who_holds_it_and_what_to_do(
    impatient: FsMetaBackend, stopped: Process, call: str
) -> None:
    with pytest.raises(BackendUnavailableError) as raised:
        SINGLE[call](impatient)

    assert "none" == raised.value.outcome
    text = str(raised.value)
    assert text.startswith(f"the lock of {NEW if call in {'store', 'get'} else BESIDE!r} (byte ")
    assert "s, and nothing was changed; " in text
    assert f"process {stopped.pid} (python" in text
    assert f"is stopped: let it go on (kill -CONT {stopped.pid}), or end it (kill -KILL {stopped.pid})" in text
    assert 1 == impatient.get_meta(BESIDE).version


@pytest.mark.parametrize("call", SINGLE)
@pytest.mark.usefixtures("stopped")
def test_a_deadline_that_is_nearer_ends_the_wait_for_a_lock(base: Path, call: str) -> None:
    with FsMetaFactory(base).create() as backend, deadline(0.2):
        started = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            SINGLE[call](backend)
        assert SOON_S > time.monotonic() - started


def test_a_batch_does_all_that_it_can_and_fails_for_the_rest(impatient: FsMetaBackend) -> None:
    results = impatient.apply(
        [
            Delete(BESIDE),
            Delete("a"),
            Update(MessageMetadata(ANOTHER)),
            Update(MessageMetadata("b", attempts=1)),
            Store(MessageMetadata(NEW)),
            Store(MessageMetadata("new")),
        ]
    )

    kinds = [type(result) for result in results]
    assert [BackendUnavailableError, type(None), BackendUnavailableError, MessageMetadata] == kinds[:4]
    assert [BackendUnavailableError, MessageMetadata] == kinds[4:]
    assert "nothing was changed" in str(results[0])
    assert 1 == impatient.get_meta(BESIDE).version


@pytest.mark.usefixtures("stopped")
def test_a_batch_waits_for_what_is_stuck_once_and_then_no_more(base: Path) -> None:
    with FsMetaFactory(base, lock_timeout=9).create() as backend:
        started = time.monotonic()
        for _ in range(50):
            assert BackendUnavailableError is type(backend.apply([Delete(BESIDE)])[0])
        assert 2 * SOON_S > time.monotonic() - started  # 3 s and 49 moments, not 50 times 3 s


def test_a_renewal_keeps_the_leases_of_the_other_messages(base: Path) -> None:
    store(base, LOCKED, BESIDE, *FREE)
    with processes(1) as (other,), FsMetaFactory(base).create() as backend:
        claimed = backend.claim([State.INCOMING], limit=100, lease=LEASE, owner="w")
        backend.move_to_state(LOCKED, State.ACTIVE, State.INCOMING)
        other.begin("stopped_works:move_and_stop", str(base), LOCKED, 1)
        other.wait_until_stopped()

        kept = [record for message_id in (BESIDE, *FREE) for record in claimed if record.id == message_id]
        renewed = backend.renew(kept, lease=timedelta(seconds=2))

        kinds = [type(each) for each in renewed]
        assert [BackendUnavailableError, MessageMetadata, MessageMetadata, MessageMetadata] == kinds


def test_listing_counting_iterating_and_checking_go_on(base: Path, stopped: Process) -> None:
    with FsMetaFactory(base).create() as backend:
        started = time.monotonic()
        assert (LOCKED,) == backend.list_messages(State.HOLD).message_ids  # as is written, wherever it lies
        assert {BESIDE, ANOTHER, *FREE} == set(backend.list_messages(State.INCOMING).message_ids)
        assert (5, 1) == (backend.get_state_count(State.INCOMING), backend.get_state_count(State.HOLD))
        assert {BESIDE, ANOTHER, *FREE} <= {record.id for record in backend.iter_messages(State.INCOMING)}
        assert State.HOLD is backend.get_meta(LOCKED).state
        (finding,) = [each for each in backend.check() if each.severity is Severity.WARNING]
        assert f"process {stopped.pid} (python" in finding.text
        assert "is stopped" in finding.text
        assert 2 * SOON_S > time.monotonic() - started


def test_what_others_changed_before_is_seen_although_its_lock_is_held(base: Path) -> None:
    """What is told to have changed, and isn't there, would be looked for under its lock."""
    store(base, LOCKED, BESIDE, *FREE)
    with processes(1) as (other,), FsMetaFactory(base).create() as backend:
        assert 5 == backend.list_messages(State.INCOMING).total
        with FsMetaFactory(base).create() as deleter:
            deleter.delete_meta(BESIDE)
        other.begin("stopped_works:move_and_stop", str(base), LOCKED, 1)
        other.wait_until_stopped()

        started = time.monotonic()
        assert set(FREE) == set(claim(backend))
        assert (LOCKED,) == backend.list_messages(State.INCOMING).message_ids
        assert SOON_S > time.monotonic() - started


@pytest.mark.usefixtures("stopped")
def test_a_record_that_cannot_be_read_and_is_locked_is_named_and_stays(base: Path) -> None:
    (base / "incoming" / f"{BESIDE}.json").write_text("damaged")
    with FsMetaFactory(base, lock_timeout=0.3).create() as backend:
        assert BESIDE in {finding.message_id for finding in backend.check() if finding.severity is Severity.ERROR}
        assert set(FREE) == set(claim(backend))
        assert BESIDE not in {record.id for record in backend.iter_messages(State.INCOMING)}
    assert (base / "incoming" / f"{BESIDE}.json").exists()


def test_nothing_is_lost_or_doubled_when_the_process_goes_on(base: Path, stopped: Process) -> None:
    with FsMetaFactory(base).create() as backend:
        claimed = claim(backend)
        stopped.go_on()
        assert 2 == stopped.line()  # its move was the second write to the message
        with pytest.raises(MessageExistsError):
            backend.store_meta(LOCKED, MessageMetadata(LOCKED))
        assert (State.HOLD, 2) == (backend.get_meta(LOCKED).state, backend.get_meta(LOCKED).version)
        claimed += claim(backend)
        assert sorted([BESIDE, ANOTHER, *FREE]) == sorted(claimed)
        assert (0, 1) == (backend.get_state_count(State.INCOMING), backend.get_state_count(State.HOLD))


@pytest.mark.parametrize("at", [1, 2])
def test_a_stopped_process_that_is_killed_lets_go_at_once(base: Path, at: int) -> None:
    store(base, LOCKED, BESIDE)
    with processes(1) as (other,), FsMetaFactory(base).create() as backend:
        other.begin("stopped_works:move_and_stop", str(base), LOCKED, at)
        other.wait_until_stopped()
        other.kill()

        assert State.HOLD is backend.move_to_state(BESIDE, State.INCOMING, State.HOLD).state
        assert {1: State.INCOMING, 2: State.HOLD}[at] is backend.get_meta(LOCKED).state


def test_a_message_whose_lock_is_busy_all_the_time_is_claimed_all_the_same(base: Path) -> None:
    """Others of lesser priority come all the time, so that a claim never has nothing else to do."""
    store(base, LOCKED)
    with processes(1) as (busy,), FsMetaFactory(base, sync="performance").create() as backend:
        backend.store_meta(BESIDE, MessageMetadata(BESIDE, priority=1))
        busy.begin("stopped_works:update_for_ever", str(base), LOCKED)
        assert "updating" == busy.line()
        with deadline(60):
            claimed = ""
            while claimed != BESIDE:
                backend.store_meta("other", MessageMetadata("other"))
                (claimed,) = claim(backend, 1)
                backend.delete_meta(claimed)
