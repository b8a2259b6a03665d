"""The N-th file operation fails, for N = 1, 2, … until the work succeeds."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from file_calls import Call, file_calls
from meta_snapshots import Snapshot, assert_nothing_is_stuck, snapshot_of
from meta_works import TEXT, WORKS, prepare

from retryspool.errors import BackendError, BackendUnavailableError, MessageExistsError
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory

BATCHES = ("apply", "apply deletions", "renew")
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EMFILE": errno.EMFILE, "a short write": 0}

every_error = pytest.mark.parametrize("error", list(ERRORS.values()), ids=list(ERRORS))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "prepared"
    with FsMetaFactory(path, sync="performance").create() as backend:
        prepare(backend)
    return path


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations are counted in the test's thread, so that a batch is written in it, too."""

    def write_all(backend: FsMetaBackend, writes: list[object]) -> list[object]:
        return [backend._result_of(write) for write in writes]  # type: ignore[arg-type]

    monkeypatch.setattr(FsMetaBackend, "_write_all", write_all)


def must_not_be_lost(call: Call) -> bool:
    """Tell whether an operation is one whose failure nothing can make up for."""
    return call.function == "fsync" or (call.function == "write" and ".tmp." in call.path)


def assert_old_or_new(before: Snapshot, found: Snapshot, after: Snapshot, failed: object) -> None:
    for message_id in before | found | after:
        assert found.get(message_id) in (before.get(message_id), after.get(message_id)), failed


@pytest.mark.parametrize(
    ("sync", "error"),  # hybrid: as performance, and as standard
    [("standard", errno.EIO), ("standard", errno.ENOSPC), ("standard", 0), ("performance", errno.EMFILE)],
    ids=["standard-EIO", "standard-ENOSPC", "standard-a short write", "performance-EMFILE"],
)
@pytest.mark.parametrize("work", WORKS)
def test_a_failure_is_an_error_and_leaves_each_message_as_it_was_or_as_it_was_to_be(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, work: str, sync: str, error: int
) -> None:
    tmp_path = prepared.parent
    before = snapshot_of(prepared)
    after: Snapshot = {}
    number = 0
    for number in itertools.count():  # none fails the first time
        base = shutil.copytree(prepared, tmp_path / str(number))
        with FsMetaFactory(base, sync=sync).create() as backend:
            backend.list_messages(State.INCOMING)
            raised = None
            with file_calls(fail_at=number, error=error) as calls:
                try:
                    WORKS[work](backend)
                except BackendError as caught:
                    raised = caught
            assert all(backend.get_meta(message_id) for message_id in before if message_id in after)
            if error and calls.failed is not None and calls.failed.function == "fsync":
                with pytest.raises(BackendUnavailableError) as refused:
                    backend.store_meta("another", MessageMetadata("another"))
                assert "none" == refused.value.outcome

        found = snapshot_of(base)
        if not number:
            assert raised is None
            after = found
        elif raised is None:
            assert after == found or work == "claim", calls.failed
        elif isinstance(raised, BackendUnavailableError) and raised.outcome == "none" and work not in BATCHES:
            assert before == found, calls.failed
        assert_old_or_new(before, found, after, calls.failed)
        if calls.failed is not None:
            assert raised is None or error, "a short write is gone on with"
            assert raised is not None or not error or not must_not_be_lost(calls.failed), "a false success"
            assert_nothing_is_stuck(base, found, monkeypatch)
        elif number > len(calls.calls):
            break
        shutil.rmtree(base)
    assert number > 3


@every_error
@pytest.mark.parametrize("there", ["a new spool", "a spool"])
def test_a_spool_that_fails_to_open_opens_another_time(
    tmp_path: Path,
    prepared: Path,
    there: str,
    error: int,
) -> None:
    before = snapshot_of(prepared) if there == "a spool" else {}
    number = 0
    for number in itertools.count(1):
        base = tmp_path / str(number)
        if there == "a spool":
            shutil.copytree(prepared, base)
        stored = False
        with file_calls(fail_at=number, error=error) as calls:
            try:
                with FsMetaFactory(base).create() as backend:
                    backend.store_meta("new", MessageMetadata("new", last_error=TEXT))
                    stored = True
            except BackendError:
                pass
        found = snapshot_of(base)
        new = found.pop("new", None)
        assert before == found, calls.failed
        assert new is not None or not stored, calls.failed
        if number > len(calls.calls):
            assert stored
            break
        shutil.rmtree(base)
    assert number > 20


@pytest.mark.parametrize("left", [b"", b"\0" * 4096, b'{\n  "ID": "m",\n  "State": 0,\n  "Att'])
def test_what_a_cut_off_store_has_left_is_not_taken_for_the_message(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "m.json").write_bytes(left)
    with FsMetaFactory(tmp_path).create() as backend:
        stored = backend.store_meta("m", MessageMetadata("m"))
        assert stored == backend.get_meta("m")


@pytest.mark.parametrize("operation", ["store", "move to where it is"])
def test_a_message_is_said_to_be_there_only_when_it_is_durable(tmp_path: Path, operation: str) -> None:
    """It may have been written by a process that was killed before it came to sync it."""
    with FsMetaFactory(tmp_path, sync="performance").create() as backend:
        backend.store_meta("m", MessageMetadata("m"))
    with FsMetaFactory(tmp_path).create() as backend, file_calls() as calls:
        if operation == "store":
            with pytest.raises(MessageExistsError):
                backend.store_meta("m", MessageMetadata("m"))
        else:
            backend.move_to_state("m", State.INCOMING, State.INCOMING)
    synced = [call.path for call in calls.of("fsync")]
    assert [str(tmp_path / "incoming" / "m.json"), str(tmp_path / "incoming")] == synced[:2]


@pytest.mark.parametrize("failing", [1, 2], ids=["content", "name"])
def test_a_message_whose_sync_failed_is_not_there_for_the_next_who_asks(tmp_path: Path, failing: int) -> None:
    """A second sync of it would succeed without anything on the disk."""
    with FsMetaFactory(tmp_path).create() as backend:
        with (
            file_calls(only="fsync", fail_at=failing, error=errno.EIO),
            pytest.raises(BackendUnavailableError) as error,
        ):
            backend.store_meta("m", MessageMetadata("m"))
        assert "unknown" == error.value.outcome
    with FsMetaFactory(tmp_path).create() as another:
        assert 1 == another.store_meta("m", MessageMetadata("m")).version


def test_a_renewal_that_fails_costs_no_other_message_its_lease(prepared: Path) -> None:
    with FsMetaFactory(prepared).create() as backend:
        claims = [backend.get_meta("active"), backend.get_meta("renewed")]
        with file_calls(only="pwrite", fail_at=1, error=errno.EIO):
            first, second = backend.renew(claims, lease=timedelta(hours=1))
        assert isinstance(first, BackendError)
        assert second == backend.get_meta("renewed")


def test_closing_lets_go_of_everything_though_a_sync_fails(tmp_path: Path) -> None:
    backend = FsMetaFactory(tmp_path, sync="hybrid", sync_interval=60).create()
    backend.store_meta("m", MessageMetadata("m"))
    with file_calls(only="fsync", fail_at=1, error=errno.EIO), pytest.raises(BackendUnavailableError):
        backend.close()
    assert [] == list((tmp_path / ".locks").glob("live.*"))
    assert [] == [path for path in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if str(tmp_path) in path]


@pytest.fixture
def quick_to_collect() -> Iterator[None]:
    """Let the garbage collector look at nothing but what the test makes."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_to_collect")
def test_a_spool_that_fails_to_open_leaves_no_file_open(tmp_path: Path) -> None:
    for number in itertools.count(1):
        with file_calls(fail_at=number, error=errno.EMFILE) as calls:
            try:
                FsMetaFactory(tmp_path).create().close()
            except BackendError as error:
                error.__traceback__ = None
        gc.collect()
        assert [] == [path for path in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if str(tmp_path) in path]
        if number > len(calls.calls):
            break
