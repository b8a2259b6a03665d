"""What is synced when: by the order of the file operations, since a power cut can't be had in a test.

Power cuts were simulated with a recorder of system calls and a model of what a disk may hold after each. What follows
is the order that they were survived with.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from file_calls import Call, FileCalls, file_calls

from retryspool.errors import BackendError, BackendUnavailableError, DataNotFoundError
from retryspool_fs_data import FsDataBackend, FsDataFactory, shards

CHANGES = ("write", "fsync", "link", "rename", "mkdir")

both_ways = pytest.mark.usefixtures("temporary_files")


def changes(calls: FileCalls, base: Path) -> list[str]:
    """Show what was changed and synced, in order; `tmp` is a temporary file, whatever its name."""

    def shown(call: Call) -> str:
        path = call.path.removeprefix(f"{base}/")
        return f"{call.function} {'tmp' if path.startswith('.tmp/') else path.replace(str(base), 'base')}"

    return [shown(call) for call in calls.of(*CHANGES)]


@both_ways
def test_content_is_synced_before_it_gets_its_name(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")

    with file_calls() as calls:
        backend.store_data("abd", b"y", if_absent=True)

    assert ["write tmp", "fsync tmp", "link ab/abd.data", "fsync ab"] == changes(calls, base)


@both_ways
def test_content_is_synced_before_the_name_in_a_replacement(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")

    with file_calls() as calls:
        backend.store_data("abc", b"y")

    steps = changes(calls, base)
    assert ["write tmp", "fsync tmp"] == steps[:2]
    assert ["rename ab/abc.data", "fsync ab"] == steps[-2:]
    with backend.get_data_reader("abc") as reader:
        assert b"y" == reader.read()


@both_ways
def test_a_new_directory_is_synced_in_its_parent_before_a_payload_in_it_is_promised(
    backend: FsDataBackend, base: Path
) -> None:
    backend.store_data("abc", b"x")

    with file_calls() as calls:
        backend.store_data("zz1", b"y", if_absent=True)

    assert [
        *("write tmp", "fsync tmp"),
        *("mkdir zz", "fsync base"),
        *("link zz/zz1.data", "fsync zz"),
    ] == changes(calls, base)


def test_a_directory_that_another_has_made_is_synced_in_its_parent_all_the_same(
    backend: FsDataBackend, base: Path
) -> None:
    # They may be between making and syncing it.
    backend.store_data("abc", b"x")
    (base / "zz").mkdir()

    with file_calls() as calls:
        backend.store_data("zz1", b"y")

    assert Call("fsync", str(base)) in calls.calls


def test_a_directory_that_was_removed_and_made_again_is_synced_again(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")
    (base / "ab" / "abc.data").unlink()
    (base / "ab").rmdir()
    (base / "ab").mkdir()

    with file_calls() as calls:
        backend.store_data("abd", b"y")

    assert Call("fsync", str(base)) in calls.calls
    assert Call("fsync", str(base / "ab")) == calls.of("fsync")[-1]
    with backend.get_data_reader("abd") as reader:
        assert b"y" == reader.read()


def test_a_base_is_synced_all_the_way_up(tmp_path: Path) -> None:
    base = tmp_path / "a" / "b" / "c"

    with file_calls() as calls:
        FsDataFactory(base).create().close()

    made = [call.path for call in calls.of("mkdir") if not Path(call.path).name.startswith(".")]
    synced = {call.path for call in calls.of("fsync")}
    assert [str(tmp_path / "a"), str(tmp_path / "a" / "b"), str(base)] == made
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= synced


def test_a_base_that_is_there_is_synced_in_its_parent_all_the_same(base: Path) -> None:
    base.mkdir()

    with file_calls() as calls:
        FsDataFactory(base).create().close()

    assert Call("fsync", str(base.parent)) in calls.calls


def test_many_payloads_sync_their_directory_once(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")

    with file_calls() as calls:
        backend.store_many([(f"ab{number}", b"x") for number in range(10)], if_absent=True)

    steps = changes(calls, base)
    assert ["fsync tmp"] * 10 == steps[10:20]
    assert ["link ab/ab9.data", "fsync ab"] == steps[-2:]
    assert 11 == len(calls.of("fsync"))


def test_a_deletion_syncs_nothing(backend: FsDataBackend) -> None:
    backend.store_data("abc", b"x")

    with file_calls() as calls:
        backend.delete_data("abc")

    assert [] == calls.of("fsync")


@both_ways
def test_hybrid_syncs_content_at_once_and_names_within_the_interval(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))

    monkeypatch.setattr(os, "fsync", fsync)
    with FsDataFactory(base, sync="hybrid", sync_interval=0.05).create() as backend:
        backend.store_data("zz1", b"x")
        with file_calls() as calls:
            backend.store_data("abc", b"x", if_absent=True)
        assert ["write tmp", "fsync tmp", "mkdir ab", "link ab/abc.data"] == changes(calls, base)

        until = time.monotonic() + 20
        while not {str(base), str(base / "ab")} <= set(synced):
            assert time.monotonic() < until, "the names were never synced"
            backend.store_data("abc", b"x")


def test_hybrid_syncs_the_names_that_wait_when_it_is_closed(base: Path) -> None:
    backend = FsDataFactory(base, sync="hybrid", sync_interval=3600).create()
    backend.store_data("abc", b"x")

    with file_calls() as calls:
        backend.close()

    assert {str(base), str(base / "ab")} == {call.path for call in calls.of("fsync")}


@both_ways
def test_performance_syncs_nothing(base: Path) -> None:
    with file_calls() as calls, FsDataFactory(base, sync="performance").create() as backend:
        backend.store_data("abc", b"x")
        backend.store_data("abc", b"y")
        backend.store_many([("abd", b"x"), ("zz1", b"x")])

    assert [] == calls.of("fsync")


def test_a_failed_sync_ends_writing_and_not_reading(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")

    with file_calls(only="fsync", fail_at=1, error=errno.EIO), pytest.raises(BackendUnavailableError):
        backend.store_data("abc", b"y")

    for refused in (
        lambda: backend.store_data("abd", b"y"),
        lambda: backend.store_many([("abd", b"y")]),
        lambda: backend.delete_data("abc"),
    ):
        with pytest.raises(BackendUnavailableError, match="an earlier sync to the disk failed"):
            refused()
    with backend.get_data_reader("abc") as reader:
        assert b"x" == reader.read()
    assert ["abc"] == [info.message_id for info in backend.iter_data()]
    backend.close()
    with FsDataFactory(base).create() as anew:
        anew.store_data("abc", b"y")
        assert {"abc": b"y"} == anew.fetch_many(["abc"], max_bytes=1)


def test_a_failed_sync_fails_every_payload_of_a_batch_that_it_was_for(backend: FsDataBackend) -> None:
    backend.store_data("abc", b"x")
    backend.store_data("zz1", b"x")
    items = [("ab1", b"1"), ("zz2", b"2"), ("ab3", b"3")]

    with file_calls(only="fsync", fail_at=2, error=errno.EIO):
        results = backend.store_many(items)
    # The first was synced, but never named: writing had ended.
    assert [True] * 3 == [isinstance(result, BackendUnavailableError) for result in results]
    for message_id, _ in items:
        with pytest.raises(DataNotFoundError):
            backend.get_data_reader(message_id)


def test_a_failed_sync_of_a_directory_is_no_success_for_what_lies_in_it(backend: FsDataBackend) -> None:
    backend.store_data("abc", b"x")
    backend.store_data("zz1", b"x")

    with file_calls(only="fsync", fail_at=4, error=errno.EIO) as calls:
        first, second, third = backend.store_many([("ab1", b"1"), ("zz2", b"2"), ("ab3", b"3")])

    failed = calls.failed
    assert failed is not None
    results = {"ab": [first, third], "zz": [second]}
    assert all(isinstance(result, BackendUnavailableError) for result in results[Path(failed.path).name])


def test_a_directory_that_comes_and_goes_is_given_up_in_the_end(
    backend: FsDataBackend, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shards.Shards._make

    def make_and_lose(self: shards.Shards, name: str) -> object:
        made = real(self, name)
        (base / name).rmdir()
        return made

    monkeypatch.setattr(shards.Shards, "_make", make_and_lose)

    with pytest.raises(BackendError, match="removed as often as it is made"):
        backend.store_data("abc", b"x")
