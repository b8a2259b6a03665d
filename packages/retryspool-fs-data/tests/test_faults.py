"""The N-th file operation fails, for N = 1, 2, … until the work succeeds."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from file_calls import file_calls

from retryspool.errors import BackendError, DataExistsError, StorageError
from retryspool_fs_data import FsDataBackend, FsDataFactory

pytestmark = pytest.mark.usefixtures("temporary_files")

OLD = b"old" * 100
NEW = os.urandom(300_000)
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "a short write": 0}
MUST_NOT_BE_LOST = {"write", "fsync"}
"""Operations whose failure can't be made up for. Of others, some can: what couldn't be tidied is left, what can't be
made without a name is made with one."""

every_error = pytest.mark.parametrize("error", list(ERRORS.values()), ids=list(ERRORS))
every_mode = pytest.mark.parametrize("mode", ["standard", "hybrid", "performance"])


def contents(base: Path) -> dict[str, bytes]:
    """Open the store anew and return all that is in it; it takes new payloads, too."""
    with FsDataFactory(base, sync="performance").create() as backend:
        found = {info.message_id: backend.get_data_reader(info.message_id) for info in backend.iter_data()}
        result: dict[str, bytes] = {}
        for message_id, reader in found.items():
            with reader:
                result[message_id] = reader.read()
        backend.store_data("afterwards", b"works")
        backend.delete_data("afterwards")
    return result


def try_until_it_succeeds(
    tmp_path: Path, mode: str, error: int, work: Callable[[FsDataBackend], object], allowed: list[dict[str, bytes]]
) -> None:
    """Fail each operation in turn, that of opening and closing too; after each only `allowed` contents are there.

    The last of those is what a success leaves.
    """
    for number in count(1):
        base = tmp_path / str(number)
        with FsDataFactory(base, sync="performance").create() as before:
            before.store_data("old", OLD)
        with file_calls(fail_at=number, error=error, only=None if error else "write") as calls:
            try:
                with FsDataFactory(base, sync=mode).create() as backend:
                    work(backend)
            except StorageError:
                succeeded = False
            else:
                succeeded = True
        found = contents(base)
        shown = {name: len(content) for name, content in found.items()}
        if succeeded:
            assert allowed[-1] == found, f"a false success with {shown} after {calls.failed}"
        else:
            assert found in allowed, f"{shown} after {calls.failed}"
        if calls.failed is None:
            assert number > 10 or not error
            return
        if error and calls.failed.function in MUST_NOT_BE_LOST:
            assert not succeeded, f"a false success after {calls.failed}"
        if not error:
            assert succeeded, f"a short write is gone on with, but failed after {calls.failed}"


@every_error
@every_mode
def test_a_new_payload_is_whole_or_not_there(tmp_path: Path, mode: str, error: int) -> None:
    try_until_it_succeeds(
        tmp_path,
        mode,
        error,
        lambda backend: backend.store_data("new", [NEW, NEW], if_absent=True),
        [{"old": OLD}, {"old": OLD, "new": NEW + NEW}],
    )


@every_error
@every_mode
def test_a_replaced_payload_is_the_old_one_or_the_new_one(tmp_path: Path, mode: str, error: int) -> None:
    try_until_it_succeeds(
        tmp_path, mode, error, lambda backend: backend.store_data("old", NEW), [{"old": OLD}, {"old": NEW}]
    )


@every_error
def test_a_deleted_payload_is_there_or_gone(tmp_path: Path, error: int) -> None:
    try_until_it_succeeds(tmp_path, "standard", error, lambda backend: backend.delete_data("old"), [{"old": OLD}, {}])


@every_error
def test_many_payloads_are_whole_or_not_there(tmp_path: Path, error: int) -> None:
    def work(backend: FsDataBackend) -> None:
        for result in backend.store_many([("n1", NEW), ("n2", NEW)], if_absent=True):
            if isinstance(result, StorageError):
                raise result

    try_until_it_succeeds(
        tmp_path,
        "standard",
        error,
        work,
        [
            {"old": OLD},
            {"old": OLD, "n1": NEW},
            {"old": OLD, "n2": NEW},
            {"old": OLD, "n1": NEW, "n2": NEW},
        ],
    )


@every_error
def test_a_read_that_fails_says_so(tmp_path: Path, error: int) -> None:
    def work(backend: FsDataBackend) -> None:
        assert {"old": OLD} == backend.fetch_many(["old"], max_bytes=1000)
        assert [("old", len(OLD))] == [(info.message_id, info.size) for info in backend.iter_data()]

    try_until_it_succeeds(tmp_path, "standard", error, work, [{"old": OLD}])


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("function", ["write", "fsync", "link"])
def test_a_failure_leaves_no_temporary_file(base: Path, function: str, error: int) -> None:
    with FsDataFactory(base).create() as backend:
        backend.store_data("old", OLD)
        with file_calls(only=function, fail_at=1, error=error), pytest.raises(BackendError):
            backend.store_data("new", NEW, if_absent=True)
        assert [] == list((base / ".tmp").iterdir())
        assert ["old"] == [info.message_id for info in backend.iter_data()]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("function", ["write", "fsync", "rename"])
def test_a_failed_replacement_leaves_no_temporary_file(base: Path, function: str, error: int) -> None:
    with FsDataFactory(base).create() as backend:
        backend.store_data("old", OLD)
        with file_calls(only=function, fail_at=1, error=error), pytest.raises(BackendError):
            backend.store_data("old", NEW)
        assert [] == list((base / ".tmp").iterdir())
        assert {"old": OLD} == backend.fetch_many(["old"], max_bytes=1000)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_takes_nothing_can_be_opened_and_read(base: Path, error: int) -> None:
    with FsDataFactory(base).create() as backend:
        backend.store_data("old", OLD)

    for name in (".tmp", ".locks"):
        (base / name).rmdir()
    with file_calls(only="mkdir", fail_at=1, error=error) as calls, FsDataFactory(base).create() as backend:
        assert calls.failed is not None
        assert {"old": OLD} == backend.fetch_many(["old"], max_bytes=1000)


def test_a_writer_that_failed_stores_nothing_though_it_is_closed(base: Path) -> None:
    with FsDataFactory(base).create() as backend:
        writer = backend.get_data_writer("new")
        with file_calls(only="write", fail_at=1, error=errno.ENOSPC), pytest.raises(BackendError):
            writer.write(NEW)
        with pytest.raises(BackendError):
            writer.write(NEW)
        with pytest.raises(BackendError):
            writer.close()
        writer.close()

        assert [] == list(backend.iter_data())


def test_a_payload_that_is_there_is_no_failure_of_the_disk(base: Path) -> None:
    with FsDataFactory(base).create() as backend:
        backend.store_data("old", OLD)
        first, second = backend.store_many([("old", NEW), ("new", NEW)], if_absent=True)
        assert isinstance(first, DataExistsError)
        assert len(NEW) == second
        assert [] == list((base / ".tmp").iterdir())
