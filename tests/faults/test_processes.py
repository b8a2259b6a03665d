"""Two and more processes on one folder of records."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from processes import processes

from retryspool.deadline import deadline
from retryspool.errors import DeadlineExceededError, MessageNotFoundError, StateConflictError
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta import FsMetaFactory

LEASE = timedelta(minutes=1)


def store(base: Path, number: int) -> None:
    with FsMetaFactory(base, sync="performance").create() as backend:
        for each in range(number):
            backend.store_meta(f"m{each}", MessageMetadata(f"m{each}"))


def test_eight_processes_that_claim_share_a_thousand_messages(tmp_path: Path) -> None:
    base = str(tmp_path)
    store(tmp_path, 1000)
    with processes(8) as racers:
        for racer in racers:
            racer.call("meta_players:prepare", base)
        for number, racer in enumerate(racers):
            racer.begin("meta_players:claim_all", base, f"owner{number}")
        claimed = [racer.line() for racer in racers]
    everything = [message_id for each in claimed if isinstance(each, list) for message_id in each]
    assert sorted(f"m{number}" for number in range(1000)) == sorted(everything)


def test_sixty_four_threads_that_move_a_thousand_messages_have_one_winner_each(tmp_path: Path) -> None:
    store(tmp_path, 1000)
    barrier = threading.Barrier(64)
    found: list[State] = []
    with FsMetaFactory(tmp_path, sync="performance").create() as backend:

        def mover(number: int) -> list[str]:
            won: list[str] = []
            barrier.wait()
            for each in range(1000):
                message_id = f"m{(each + number * 7) % 1000}"
                try:
                    backend.move_to_state(message_id, State.INCOMING, State.HOLD)
                except StateConflictError as error:
                    found.append(error.found)
                else:
                    won.append(message_id)
            return won

        with ThreadPoolExecutor(64) as pool:
            won = [message_id for each in pool.map(mover, range(64)) for message_id in each]
    assert sorted(f"m{number}" for number in range(1000)) == sorted(won)
    assert [State.HOLD] * 63_000 == found


def test_eight_processes_that_move_a_thousand_messages_have_one_winner_each(tmp_path: Path) -> None:
    base = str(tmp_path)
    store(tmp_path, 1000)
    with processes(8) as racers:
        for racer in racers:
            racer.call("meta_players:prepare", base)
        for racer in racers:
            racer.begin("meta_players:move_all", base, 1000, 2)
        won = [racer.line() for racer in racers]
    everything = [message_id for each in won if isinstance(each, list) for message_id in each]
    assert sorted(f"m{number}" for number in range(1000)) == sorted(everything)
    with FsMetaFactory(tmp_path).create() as backend:
        assert (0, 1000) == (backend.get_state_count(State.INCOMING), backend.get_state_count(State.HOLD))


def test_a_message_that_another_process_stores_wakes_who_waits(tmp_path: Path) -> None:
    with processes(1) as (other,), FsMetaFactory(tmp_path).create() as backend:
        other.call("meta_players:prepare", str(tmp_path))
        for number in range(5):
            assert [] == backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w")
            other.begin("meta_players:store", str(tmp_path), f"m{number}")
            woken = backend.wait_for_change(5)
            noticed = time.monotonic()
            stored = other.line()
            assert woken
            assert isinstance(stored, float)
            assert 2 > noticed - stored  # 0.05 s, on a machine that has nothing else to do
            assert 1 == len(backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w"))


def test_a_message_that_others_move_about_is_never_not_found(tmp_path: Path) -> None:
    base = str(tmp_path)
    with processes(1) as (mover,), FsMetaFactory(tmp_path, sync="performance").create() as backend:
        backend.store_meta("m", MessageMetadata("m", State.ARCHIVED))
        mover.begin("meta_players:move_around", base, "m")
        assert "moving" == mover.line()
        versions = [backend.get_meta("m").version for _ in range(4000)]
        assert versions[-1] > versions[0]
        assert sorted(versions) == versions
        with pytest.raises(MessageNotFoundError):
            backend.get_meta("another")


def test_a_lease_outlives_its_killed_owner_and_then_the_message_is_anothers(tmp_path: Path) -> None:
    base = str(tmp_path)
    with FsMetaFactory(tmp_path).create() as backend:
        backend.store_meta("m", MessageMetadata("m"))
        with processes(1) as (owner,):
            assert "m" == owner.call("meta_players:claim_one", base, "killed", 3)
            owner.kill()
            seen = backend.get_meta("m")
            assert (State.ACTIVE, "killed", 1) == (seen.state, seen.lease_owner, seen.deliveries)
            assert [] == backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w")
        claimed = []
        until = time.monotonic() + 20
        while not claimed and time.monotonic() < until:
            backend.wait_for_change(0.1)
            claimed = backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w")
        assert [("m", 2, "w", State.INCOMING)] == [
            (each.id, each.deliveries, each.lease_owner, each.claimed_from) for each in claimed
        ]
        assert claimed[0].updated >= seen.lease_expires


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    with FsMetaFactory(tmp_path).create() as backend, processes(1) as (holder,):
        holder.begin("meta_players:hold_lock", str(tmp_path), "m")
        assert "held" == holder.line()
        with deadline(0.2), pytest.raises(DeadlineExceededError):
            backend.store_meta("m", MessageMetadata("m"))
        holder.kill()
        with deadline(20):
            assert 1 == backend.store_meta("m", MessageMetadata("m")).version


def test_a_temporary_file_lives_as_long_as_the_process_that_writes_it(tmp_path: Path) -> None:
    with processes(1) as (writer,):
        writer.begin("meta_players:write_slowly", str(tmp_path))
        temporary = Path(str(writer.line()))
        with FsMetaFactory(tmp_path).create() as backend:
            backend.list_messages(State.INCOMING)  # by then it has been swept
            assert temporary.exists()
        writer.kill()
        with FsMetaFactory(tmp_path).create() as backend:
            backend.list_messages(State.INCOMING)
            assert not temporary.exists()
            assert 1 == len(list((tmp_path / ".locks").glob("live.*")))


def test_processes_that_are_killed_at_work_lose_nothing_and_leave_nothing_stuck(tmp_path: Path) -> None:
    said: list[list[str]] = []
    with FsMetaFactory(tmp_path, sync="performance").create() as backend:
        for round_ in range(3):
            with processes(3) as workers:
                for number, worker in enumerate(workers):
                    worker.begin("meta_players:work_for_ever", str(tmp_path), 10 * round_ + number)
                for worker in workers:
                    for _ in range(60):
                        line = worker.line()
                        assert isinstance(line, list)
                        said.append(line)
        stored = {message_id for what, message_id in said if what == "stored"}
        deleted = Counter(message_id for what, message_id in said if what == "deleted")
        left: list[str] = []
        until = time.monotonic() + 20
        while any(backend.get_state_count(state) for state in State) and time.monotonic() < until:
            for record in backend.claim([State.INCOMING], limit=100, lease=LEASE, owner="rest"):
                left.append(record.id)
                backend.delete_meta(record.id, if_version=record.version)
            backend.wait_for_change(0.05)
        assert [0] * 6 == [backend.get_state_count(state) for state in State]
        assert len(left) == len(set(left))
        assert {1} >= set(deleted.values())
        assert not deleted.keys() & set(left)
        assert [] == list((tmp_path / "corrupt").iterdir())
        assert stored
