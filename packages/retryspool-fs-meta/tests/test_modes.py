"""What is synced, and in which order, in each mode; and what files are made like."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from file_calls import FileCalls, file_calls
from meta_works import prepare

from retryspool.errors import BackendClosedError, BackendError
from retryspool.meta import Delete, ListOptions
from retryspool.model import MessageMetadata, State, replace, utc_now
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory
from retryspool_fs_meta.index import Index

LEASE = timedelta(minutes=1)
_ALL = ListOptions()


def steps(calls: FileCalls, base: Path) -> list[str]:
    """Return what changed and synced, in order: `temporary` for each temporary file, folders by their names."""
    result: list[str] = []
    for call in calls.of("write", "fsync", "rename", "unlink"):
        path = Path(call.path).relative_to(base)
        if path.parts[0] != ".locks":
            name = "temporary" if ".tmp." in path.name else str(path)
            result.append(f"{call.function} {name}")
    return result


def prepared(base: Path, sync: str) -> FsMetaBackend:
    with FsMetaFactory(base, sync="performance").create() as backend:
        prepare(backend)
    backend = FsMetaFactory(base, sync=sync, sync_interval=3600).create()
    backend.list_messages(State.INCOMING)
    return backend


def test_a_new_record_is_synced_under_its_name_and_then_its_folder(base: Path) -> None:
    with prepared(base, "standard") as backend, file_calls() as calls:
        backend.store_meta("m", MessageMetadata("m"))
    assert [
        "write temporary",
        "rename incoming/m.json",
        "fsync incoming/m.json",
        "fsync incoming",
    ] == steps(calls, base)[:4]


def test_among_other_threads_the_folder_of_a_new_record_is_synced_first_and_its_content_all_the_same(
    base: Path,
) -> None:
    with prepared(base, "standard") as backend, file_calls() as calls:
        backend._files._creating.add(-1)  # another thread that is making a record, too
        backend.store_meta("m", MessageMetadata("m"))
    assert [
        "write temporary",
        "rename incoming/m.json",
        "fsync incoming",
        "fsync incoming/m.json",
    ] == steps(calls, base)[:4]


def test_a_record_is_replaced_by_one_that_is_on_the_disk_already(base: Path) -> None:
    with prepared(base, "standard") as backend:
        with file_calls() as calls:
            backend.update_meta("hold", backend.get_meta("hold"))
        assert ["write temporary", "fsync temporary", "rename hold/hold.json", "fsync hold"] == steps(calls, base)


def test_a_move_syncs_the_content_before_its_name_and_both_folders_after(base: Path) -> None:
    with prepared(base, "standard") as backend:
        with file_calls() as calls:
            backend.move_to_state("hold", State.HOLD, State.INCOMING)
        assert [
            "write temporary",
            "fsync temporary",
            "rename hold/hold.json",
            "rename incoming/hold.json",
            "fsync incoming",
            "fsync hold",
        ] == steps(calls, base)


def test_a_claim_and_a_renewal_sync_nothing_and_write_no_record(base: Path) -> None:
    with prepared(base, "standard") as backend:
        with file_calls() as calls:
            claimed = backend.claim([State.INCOMING], limit=10, lease=LEASE, owner="w")
            backend.renew(claimed, lease=LEASE)
        assert ["rename active/incoming.json"] == steps(calls, base)


def test_a_batch_of_deletions_syncs_each_folder_once_after_all(base: Path) -> None:
    with prepared(base, "standard") as backend:
        with file_calls() as calls:
            assert [None] * 3 == backend.apply([Delete(name) for name in ("active", "hold", "renewed")])
        assert ["unlink active/active.json", "unlink hold/hold.json", "unlink active/renewed.json"] == steps(
            calls, base
        )[:3]
        assert ["fsync active", "fsync hold"] == sorted(steps(calls, base)[3:])


def test_hybrid_mode_syncs_content_at_once_and_names_later(base: Path) -> None:
    backend = prepared(base, "hybrid")
    with file_calls() as calls:
        backend.store_meta("m", MessageMetadata("m"))
        backend.move_to_state("hold", State.HOLD, State.INCOMING)
        backend.delete_meta("bounce")
    assert [
        "write temporary",
        "fsync temporary",
        "rename incoming/m.json",
        "write temporary",
        "fsync temporary",
        "rename hold/hold.json",
        "rename incoming/hold.json",
        "unlink bounce/bounce.json",
    ] == steps(calls, base)
    with file_calls() as calls:
        backend.close()
    assert ["fsync bounce", "fsync hold", "fsync incoming"] == sorted(steps(calls, base))


def test_hybrid_mode_syncs_names_within_the_interval(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = threading.Event()
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        if os.path.realpath(f"/proc/self/fd/{fd}") == str(base / "hold"):
            synced.set()

    with FsMetaFactory(base, sync="hybrid", sync_interval=0.05).create() as backend:
        monkeypatch.setattr(os, "fsync", fsync)
        backend.store_meta("m", MessageMetadata("m", State.HOLD))
        assert synced.wait(20)


def test_performance_mode_syncs_nothing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.path.realpath(f"/proc/self/fd/{fd}")))
    with FsMetaFactory(base / "deep" / "down", sync="performance").create() as backend:
        prepare(backend)
        backend.update_meta("hold", backend.get_meta("hold"))
        backend.move_to_state("hold", State.HOLD, State.INCOMING)
        backend.move_to_state("hold", State.INCOMING, State.INCOMING)
        (base / "deep" / "down" / "hold" / "damaged.json").write_text("damaged")
        backend._surveyor.survey(lambda: False)
        backend.apply([Delete("hold"), Delete("active")])
        backend.delete_meta("archived")
    assert [] == synced


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_folders_are_made_with_their_mode(base: Path, mode: int) -> None:
    with FsMetaFactory(base, dir_mode=mode).create():
        made = [base, *(path for path in base.iterdir() if path.is_dir())]
    assert {mode} == {stat.S_IMODE(path.stat().st_mode) for path in made}
    assert 10 == len(made)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, None])
def test_files_are_made_with_their_mode_less_the_umask(base: Path, mode: int | None) -> None:
    umask = os.umask(0o027)
    try:
        with FsMetaFactory(base, file_mode=mode).create() as backend:
            prepare(backend)
            backend.update_meta("hold", backend.get_meta("hold"))
            found = {stat.S_IMODE(path.stat().st_mode) for path in base.glob("[!.]*/*.json")}
            shared = {
                stat.S_IMODE(path.stat().st_mode) for path in (base / ".locks").iterdir() if "live." not in path.name
            }
    finally:
        os.umask(umask)
    assert {(0o666 if mode is None else mode) & ~0o027} == found == shared


def test_a_fork_is_told_so_and_does_the_original_no_harm(base: Path) -> None:
    with FsMetaFactory(base).create() as backend:
        backend.store_meta("m", MessageMetadata("m"))
        reading, writing = os.pipe()
        child = _fork()
        if not child:
            _in_the_child(backend, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read().splitlines()
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert 8 == len(said)
        assert all("forked" in line for line in said), said

        assert 1 == len(list((base / ".locks").glob("live.*")))
        with FsMetaFactory(base).create() as another:
            assert backend.get_meta("m") == another.get_meta("m")
        assert 1 == backend.store_meta("n", MessageMetadata("n")).version


def _fork() -> int:
    import warnings  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of what is tried here
        return os.fork()


def _in_the_child(backend: FsMetaBackend, pipe: int) -> None:
    calls: list[Any] = [
        lambda: backend.get_meta("m"),
        lambda: backend.store_meta("x", MessageMetadata("x")),
        lambda: backend.delete_meta("m"),
        lambda: backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w"),
        lambda: backend.list_messages(State.INCOMING),
        lambda: next(backend.iter_messages(State.INCOMING)),
        lambda: backend.wait_for_change(1),
        lambda: next(backend.check()),
    ]
    try:
        for call in calls:
            try:
                call()
            except BackendError as error:
                os.write(pipe, f"{error}\n".encode())
        backend.close()
        backend.close()
    finally:
        os._exit(0)


def test_closing_while_others_work_lets_them_finish_or_refuses_them(base: Path) -> None:
    backend = FsMetaFactory(base, sync="performance").create()
    done: list[str] = []
    started = threading.Barrier(5)

    def worker(number: int) -> str:
        started.wait()
        for each in range(100_000):
            message_id = f"{number}-{each}"
            try:
                backend.store_meta(message_id, MessageMetadata(message_id))
                done.append(message_id)
                for record in backend.claim([State.INCOMING], limit=3, lease=LEASE, owner="w"):
                    backend.apply([Delete(record.id, record.version)])
                    done.append(record.id)
            except BackendClosedError:
                return "closed"
        return "never closed"

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(worker, number) for number in range(4)]
        started.wait()
        while len(done) < 50:
            threading.Event().wait(0.001)
        backend.close()
        backend.close()
        assert ["closed"] * 4 == [each.result() for each in workers]
    assert [] == list(base.glob("*/.tmp.*"))
    with FsMetaFactory(base).create() as another:
        assert sorted(path.stem for path in base.glob("*/*.json")) == sorted(
            message_id for state in State for message_id in another.list_messages(state).message_ids
        )


def test_the_index_keeps_no_trace_of_messages_that_are_gone() -> None:
    index = Index()
    for state in State:
        index.put(MessageMetadata("first", state))
        index.list(state, _ALL)
    for number in range(30_000):
        record = MessageMetadata(f"m{number}", State(number % 6), route=f"r{number % 7}")
        index.put(record)
        if number % 3 == 0:
            index.put(replace(record, priority=1))
        if number % 5 == 0:
            index.take_due([record.state], 1, utc_now(), ())
        index.remove(record.id)
    index.remove("first")
    sizes = [len(index._entries)]
    for schedule in index._schedules.values():
        sizes += [len(schedule._all), len(schedule._waiting), sum(map(len, schedule._ready.values()))]
    for listing in index._listings.values():
        sizes += [len(listing._keys), len(listing._new)]
    assert 2000 >= max(sizes), sizes
