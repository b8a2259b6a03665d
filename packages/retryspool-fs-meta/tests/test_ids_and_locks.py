"""Every id is a message of its own, and what stands in `.locks/` is no more than is needed."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

from strategies import TRICKY_IDS

from retryspool.meta import ListOptions
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta import FsMetaFactory

LEASE = timedelta(minutes=1)
IDS = (
    *TRICKY_IDS,
    "a.tmp.0123456789ab.1",
    "tmp.0123456789ab.1",
    "m.torn",
    "m.double",
    "leases.m",
    "0123456789ab",
    "x" * 195 + ".json",
)


def test_every_id_lives_through_all_that_happens_to_a_message(base: Path) -> None:
    assert len(IDS) == len(set(IDS))
    with FsMetaFactory(base, sync="performance").create() as backend:
        for message_id in IDS:
            backend.store_meta(message_id, MessageMetadata(message_id, headers={"id": message_id}))
        claimed = backend.claim([State.INCOMING], limit=1000, lease=LEASE, owner="w")
        assert sorted(IDS) == sorted(each.id for each in claimed)
    with FsMetaFactory(base, sync="performance").create() as another:  # which sweeps, and surveys
        assert set(IDS) == set(another.list_messages(State.ACTIVE, ListOptions(limit=1000)).message_ids)
        for each in claimed:
            assert each == another.get_meta(each.id)
            another.move_to_state(each.id, State.ACTIVE, State.HOLD)
        for message_id in IDS:
            assert message_id == another.get_meta(message_id).headers["id"]
            another.delete_meta(message_id)
        assert 0 == another.get_state_count(State.HOLD)


def test_a_damaged_record_of_every_id_is_that_messages_and_no_others(base: Path) -> None:
    (base / "hold").mkdir(parents=True)
    for message_id in IDS:
        (base / "hold" / f"{message_id}.json").write_text("damaged")
    with FsMetaFactory(base, sync="performance").create() as backend:
        for message_id in IDS:
            backend.store_meta(message_id, MessageMetadata(message_id))
            (base / "incoming" / f"{message_id}.json").write_text("damaged again")
        assert 0 == backend.list_messages(State.INCOMING).total
        found = [finding.message_id for finding in backend.check() if finding.subject.startswith("corrupt/")]
    assert set(IDS) == set(found) - {None}
    assert 2 * len(IDS) == len(list((base / "corrupt").iterdir()))


def test_the_folder_of_locks_does_not_grow(base: Path) -> None:
    def work() -> set[str]:
        with FsMetaFactory(base, sync="performance").create() as backend:
            for number in range(200):
                backend.store_meta(f"m{number}", MessageMetadata(f"m{number}"))
            for each in backend.claim([State.INCOMING], limit=200, lease=LEASE, owner="w"):
                backend.delete_meta(each.id)
        return {path.name for path in (base / ".locks").iterdir()}

    first = work()
    assert 3 == len(first)
    assert first == work()


def test_two_instances_in_one_process_exclude_each_other(base: Path) -> None:
    with FsMetaFactory(base).create() as one, FsMetaFactory(base).create() as other:
        one.store_meta("m", MessageMetadata("m"))
        order: list[str] = []
        with one._locks.holding("m"):
            mover = threading.Thread(
                target=lambda: order.append(str(other.move_to_state("m", State.INCOMING, State.HOLD)))
            )
            mover.start()
            mover.join(0.1)
            assert mover.is_alive()
            order.append("released")
        mover.join(20)
        assert "released" == order[0]
        assert State.HOLD is one.get_meta("m").state


def test_closing_one_instance_ends_no_lock_of_another(base: Path) -> None:
    """As closing any descriptor of the file does with the plain locks of POSIX."""
    with FsMetaFactory(base).create() as one, FsMetaFactory(base).create() as other:
        stripe = one._locks.stripe_of("m")
        with one._locks.holding("m"):
            FsMetaFactory(base).create().close()
            assert not other._locks.try_acquire(stripe)
        assert other._locks.try_acquire(stripe)
        other._locks.release(stripe)
