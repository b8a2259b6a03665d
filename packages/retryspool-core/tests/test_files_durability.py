"""When what is written reaches the disk, and what follows when it can't."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from retryspool.errors import BackendError, BackendUnavailableError, InvalidOptionError
from retryspool.files import Directory, Durability, SyncMode, disk_error, wrapping_disk_errors


class Disk:
    """Stands in for fsync: a failing disk can't be had."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.failure: OSError | None = None
        self.changed = threading.Condition()

    def fsync(self, fd: int) -> None:
        with self.changed:
            if self.failure is not None:
                raise self.failure
            self.synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
            self.changed.notify_all()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    return disk


@pytest.fixture
def names(tmp_path: Path) -> list[Directory]:
    found: list[Directory] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(Directory(tmp_path / name))
    return found


@pytest.fixture
def content(tmp_path: Path) -> int:
    return os.open(tmp_path / "content", os.O_RDWR | os.O_CREAT)


def test_the_standard_mode_syncs_all_before_it_returns(disk: Disk, names: list[Directory], content: int) -> None:
    standard = Durability(SyncMode.STANDARD)

    standard.sync_content(content)
    standard.sync_names(*names)

    assert ["content", "one", "two"] == disk.synced
    standard.close()


def test_the_performance_mode_syncs_nothing(disk: Disk, names: list[Directory], content: int) -> None:
    performance = Durability(SyncMode.PERFORMANCE)

    performance.sync_content(content)
    performance.sync_names(*names)
    performance.close()

    assert [] == disk.synced


def test_the_hybrid_mode_syncs_content_at_once_and_names_within_the_interval(
    disk: Disk, names: list[Directory], content: int
) -> None:
    hybrid = Durability(SyncMode.HYBRID, 0.01)

    hybrid.sync_content(content)
    assert ["content"] == disk.synced
    hybrid.sync_names(*names)
    hybrid.sync_names(names[0])
    with disk.changed:
        assert disk.changed.wait_for(lambda: {"one", "two"} <= set(disk.synced), 20)
    hybrid.close()


def test_what_waits_is_synced_at_the_end(disk: Disk, names: list[Directory]) -> None:
    hybrid = Durability(SyncMode.HYBRID, 3600)
    hybrid.sync_names(names[1])
    hybrid.sync_names(names[1])
    assert [] == disk.synced

    hybrid.close()
    hybrid.close()

    assert ["two"] == disk.synced


def test_no_thread_is_left_behind(disk: Disk, names: list[Directory]) -> None:
    hybrid = Durability(SyncMode.HYBRID, 3600)
    hybrid.sync_names(*names)

    hybrid.close()

    assert disk.synced
    assert [] == [thread.name for thread in threading.enumerate() if thread.name == "retryspool-sync"]


@pytest.mark.parametrize("what", ["content", "names"])
def test_a_failed_sync_is_final(disk: Disk, names: list[Directory], content: int, what: str) -> None:
    standard = Durability(SyncMode.STANDARD)
    standard.check()
    disk.failure = OSError(errno.EIO, "Input/output error")

    with pytest.raises(BackendUnavailableError, match="Input/output error") as failed:
        standard.sync_content(content) if what == "content" else standard.sync_names(*names)
    disk.failure = None

    assert ("unknown", OSError) == (failed.value.outcome, type(failed.value.__cause__))
    with pytest.raises(BackendUnavailableError, match="an earlier sync to the disk failed") as refused:
        standard.check()
    assert "none" == refused.value.outcome


def test_a_failed_sync_is_not_tried_again(disk: Disk, names: list[Directory], content: int) -> None:
    standard = Durability(SyncMode.STANDARD)
    disk.failure = OSError(errno.EIO, "Input/output error")
    with pytest.raises(BackendUnavailableError):
        standard.sync_content(content)
    disk.failure = None

    for again in (lambda: standard.sync_content(content), lambda: standard.sync_names(*names)):
        with pytest.raises(BackendUnavailableError):
            again()
    assert [] == disk.synced


def test_a_name_that_fails_to_sync_later_shows_at_the_next_write(disk: Disk, names: list[Directory]) -> None:
    hybrid = Durability(SyncMode.HYBRID, 3600)
    hybrid.sync_names(*names)
    disk.failure = OSError(errno.EIO, "Input/output error")

    hybrid.flush()

    with pytest.raises(BackendUnavailableError, match="Input/output error"):
        hybrid.check()
    hybrid.close()


def test_a_new_instance_starts_afresh(disk: Disk, content: int) -> None:
    disk.failure = OSError(errno.EIO, "Input/output error")
    with pytest.raises(BackendUnavailableError):
        Durability(SyncMode.STANDARD).sync_content(content)

    Durability(SyncMode.STANDARD).check()


@pytest.mark.parametrize("interval_s", [0, -1, 3601, float("nan"), float("inf")])
def test_an_interval_out_of_range_is_refused(interval_s: float) -> None:
    with pytest.raises(InvalidOptionError, match=r"sync_interval is .*; it must be more than 0 and at most 3600"):
        Durability(SyncMode.HYBRID, interval_s)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, BackendUnavailableError), (errno.EROFS, BackendUnavailableError), (errno.EIO, BackendError)],
)
def test_a_disk_error_says_what_was_tried_and_on_what(number: int, kind: type[BackendError]) -> None:
    cause = OSError(number, os.strerror(number), "/var/spool/x")

    with pytest.raises(BackendError) as failed, wrapping_disk_errors("storing message 'a1'"):
        raise cause

    assert (kind, cause) == (type(failed.value), failed.value.__cause__)
    assert f"storing message 'a1' failed: {os.strerror(number)} (/var/spool/x)" == str(failed.value)


def test_an_error_tells_whether_the_effect_may_have_happened() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    outcomes = [disk_error("x", full), disk_error("x", full, outcome="unknown")]

    assert ["none", "unknown"] == [error.outcome for error in outcomes if isinstance(error, BackendUnavailableError)]


def test_an_error_without_a_number_is_told_too() -> None:
    assert "x failed: odd" == str(disk_error("x", OSError("odd")))
