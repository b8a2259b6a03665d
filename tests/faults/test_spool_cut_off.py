"""Enqueuing and deleting over both file backends, cut off at each file operation by a kill or a disk that fails."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from file_calls import file_calls
from kill_points import KillPoints
from spool_works import NEW, OLD, PAYLOAD, WORKS, prepare

from retryspool import Queue, State
from retryspool.errors import StorageError
from retryspool.model import Severity

ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "a short write": 0}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    prepare(str(folder))
    return folder


@pytest.fixture(scope="module")
def kill_points() -> Iterator[KillPoints]:
    with KillPoints() as started:
        yield started


def opened(folder: Path) -> Queue:
    """Open a spool without the syncs, which only take time here."""
    return Queue.open(meta=f"fs:{folder}/meta?sync=performance", data=f"fs:{folder}/data?sync=performance")


def contents(folder: Path) -> set[str]:
    """Open the spool anew and return the messages in it, each once and whole; nothing else is left there."""
    with opened(folder) as queue:
        found = [record.id for state in State for record in queue.iter(state)]
        assert len(found) == len(set(found))
        for message_id in found:
            with queue.open_payload(message_id) as payload:
                assert PAYLOAD == payload.read()
        assert [] == [finding for finding in queue.check() if finding.severity is Severity.ERROR]
        orphans = [each for each in queue.reconcile(grace=timedelta(0)) if each.message_id in found]
        assert [] == orphans
        assert set(found) == {info.message_id for info in queue.spool.data.iter_data()}
        for message_id in (OLD, NEW):  # whose sender, told of an error or of nothing, tries again
            queue.enqueue(PAYLOAD, message_id=message_id, if_exists="skip")
            with queue.open_payload(message_id) as payload:
                assert PAYLOAD == payload.read()
        assert 2 == queue.count(State.INCOMING)
    return set(found)


def expected_after(work: str) -> set[str]:
    return {"enqueue": {OLD, NEW}, "enqueue in pieces": {OLD, NEW}, "delete": set[str]()}.get(work, {OLD})


@pytest.mark.parametrize("work", WORKS)
def test_a_kill_leaves_whole_messages(prepared: Path, kill_points: KillPoints, work: str) -> None:
    seen: list[set[str]] = []
    for number in itertools.count(1):
        folder = shutil.copytree(prepared, prepared.parent / str(number))
        death = kill_points.run("spool_works:work", str(folder), work, at=number)
        seen.append(_released_and_listed(folder))
        shutil.rmtree(folder)
        if death is None:
            break
    assert expected_after(work) == seen[-1]
    assert all(each in ({OLD}, expected_after(work)) for each in seen)
    assert len(seen) > 3


def _released_and_listed(folder: Path) -> set[str]:
    with opened(folder) as queue:
        for record in list(queue.iter(State.HOLD)):
            queue.release(record.id)
    return contents(folder)


@pytest.mark.parametrize("error", list(ERRORS.values()), ids=list(ERRORS))
@pytest.mark.parametrize("work", WORKS)
def test_a_failure_is_an_error_or_has_its_whole_effect(prepared: Path, work: str, error: int) -> None:
    number = 0
    for number in itertools.count(1):
        folder = shutil.copytree(prepared, prepared.parent / str(number))
        succeeded = False
        with Queue.open(folder) as queue, file_calls(fail_at=number, error=error) as calls:
            try:
                WORKS[work](queue)
                succeeded = True
            except StorageError:
                pass
        found = _released_and_listed(folder)
        assert found == expected_after(work) or (not succeeded and found == {OLD}), calls.failed
        assert not error or calls.failed is None or calls.failed.function != "fsync" or not succeeded, calls.failed
        shutil.rmtree(folder)
        if number > len(calls.calls):
            assert succeeded
            break
    assert number > 3
