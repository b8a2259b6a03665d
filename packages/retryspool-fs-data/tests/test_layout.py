"""Where payloads lie, and what else may lie there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from strategies import HOSTILE_IDS, message_ids

from retryspool.errors import BackendError, DataExistsError, DataNotFoundError, InvalidMessageIdError
from retryspool.files import directory
from retryspool.model import Severity
from retryspool_fs_data import FsDataBackend, FsDataFactory
from retryspool_fs_data.layout import file_name_of, is_shard, message_id_of, shard_of


def payload_files(base: Path) -> list[str]:
    return sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file() and path.suffix == ".data")


def read(backend: FsDataBackend, message_id: str) -> bytes:
    with backend.get_data_reader(message_id) as reader:
        return reader.read()


def test_payloads_lie_where_the_go_system_puts_them(backend: FsDataBackend, base: Path) -> None:
    for message_id in ("a", "ab", "abc", "a.b", "AB"):
        backend.store_data(message_id, b"x")

    assert ["AB/AB.data", "a./a.b.data", "ab/ab.data", "ab/abc.data", "misc/a.data"] == payload_files(base)


def test_a_spool_of_the_go_system_opens_as_it_is(base: Path) -> None:
    stored = {"msg-123": b"hello", "m": b"", "4f6c": b"\0\xff" * 5000, "ms.data": b"x"}
    for path, message_id in {
        "ms/msg-123.data": "msg-123",
        "misc/m.data": "m",
        "4f/4f6c.data": "4f6c",
        "ms/ms.data.data": "ms.data",
    }.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_bytes(stored[message_id])

    with FsDataFactory(base).create() as backend:
        assert {name: len(content) for name, content in stored.items()} == {
            info.message_id: info.size for info in backend.iter_data()
        }
        assert stored == {name: read(backend, name) for name in stored}
        assert [] == list(backend.check())
        backend.store_data("msg-123", b"replaced")
        backend.delete_data("m")

    assert ["4f/4f6c.data", "ms/ms.data.data", "ms/msg-123.data"] == payload_files(base)


@given(message_ids)
def test_a_file_tells_whose_payload_it_is(message_id: str) -> None:
    assert message_id == message_id_of(shard_of(message_id), file_name_of(message_id))
    assert is_shard(shard_of(message_id))
    assert message_id_of("zz" if shard_of(message_id) != "zz" else "yy", file_name_of(message_id)) is None


@given(message_ids)
def test_every_name_fits_a_file_system(message_id: str) -> None:
    assert len(file_name_of(message_id)) <= 255
    assert "/" not in shard_of(message_id) + file_name_of(message_id)
    assert shard_of(message_id) not in {".", ".."}


@pytest.mark.parametrize("message_id", HOSTILE_IDS)
def test_a_hostile_id_touches_no_file(backend: FsDataBackend, base: Path, message_id: str) -> None:
    before = sorted(base.parent.rglob("*"))

    with pytest.raises(InvalidMessageIdError):
        backend.store_data(message_id, b"x")
    with pytest.raises(InvalidMessageIdError):
        backend.get_data_reader(message_id)
    with pytest.raises(InvalidMessageIdError):
        backend.delete_data(message_id)
    with pytest.raises(InvalidMessageIdError):
        backend.store_many([("fine", b"x"), (message_id, b"x")])

    assert before == sorted(base.parent.rglob("*"))


def test_what_is_no_payload_is_left_alone_and_reported(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")
    foreign = ["ab/notes.txt", "ab/zz.data", "ab/.data", "ab/ab c.data", "readme", "abc/abc.data", "ab/ab1.data/x"]
    for name in foreign:
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_bytes(b"not ours")

    assert ["abc"] == [info.message_id for info in backend.iter_data()]
    expected = {"ab/notes.txt", "ab/zz.data", "ab/.data", "ab/ab c.data", "readme", "abc", "ab/ab1.data"}
    assert expected == {str(Path(finding.subject).relative_to(base)) for finding in backend.check()}
    backend.close()
    assert all((base / name).exists() for name in foreign)


def test_a_healthy_store_has_no_findings(backend: FsDataBackend) -> None:
    backend.store_data("abc", b"x")

    assert [] == list(backend.check())


def test_a_mode_that_a_power_cut_can_hurt_is_reported(base: Path) -> None:
    for mode, severity in (("hybrid", Severity.NOTICE), ("performance", Severity.WARNING)):
        with FsDataFactory(base, sync=mode).create() as backend:
            (finding,) = backend.check()
            assert (severity, f"sync={mode}") == (finding.severity, finding.subject)


def test_a_network_file_system_is_reported(backend: FsDataBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    # No network file system is at hand: the local ones are declared to be such.
    monkeypatch.setattr(directory, "_NETWORK_TYPES", {"ext4", "tmpfs", "overlay", "xfs", "btrfs"})

    (finding,) = backend.check()

    assert finding.severity is Severity.WARNING
    assert "network file system" in finding.text


def test_a_payload_that_is_a_symbolic_link_is_not_followed(backend: FsDataBackend, base: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    backend.store_data("abc", b"x")
    (base / "ab" / "abc.data").unlink()
    (base / "ab" / "abc.data").symlink_to(secret)

    with pytest.raises(BackendError, match="abc"):
        backend.get_data_reader("abc")
    with pytest.raises(BackendError, match="abc"):
        backend.fetch_many(["abc"], max_bytes=100)
    with pytest.raises(DataExistsError):
        backend.store_data("abc", b"mine", if_absent=True)
    assert [] == list(backend.iter_data())
    assert ["this is a symbolic link, which is never followed; replace it by what it points to"] == [
        finding.text for finding in backend.check()
    ]
    backend.store_data("abc", b"mine")

    assert b"mine" == read(backend, "abc")
    assert b"secret" == secret.read_bytes()


def test_a_directory_that_is_a_symbolic_link_is_not_followed(
    backend: FsDataBackend, base: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "abc.data").write_bytes(b"secret")
    (base / "ab").symlink_to(outside)

    with pytest.raises(BackendError, match="abd"):
        backend.store_data("abd", b"x")
    with pytest.raises(BackendError, match="abc"):
        backend.get_data_reader("abc")
    with pytest.raises(BackendError, match="abc"):
        backend.delete_data("abc")
    assert [] == list(backend.iter_data())

    assert [outside / "abc.data"] == list(outside.iterdir())


@pytest.mark.parametrize("name", [".tmp", ".locks"])
def test_a_folder_of_ours_that_leads_out_is_not_written_through(base: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    base.mkdir()
    (base / name).symlink_to(outside)

    with FsDataFactory(base).create() as backend, pytest.raises(BackendError):
        backend.store_data("abc", b"x")

    assert [] == list(outside.iterdir())


def test_what_is_no_regular_file_does_not_block_a_reader(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")
    os.mkfifo(base / "ab" / "abd.data")

    with pytest.raises(BackendError, match="not a regular file"):
        backend.get_data_reader("abd")
    assert ["abc"] == [info.message_id for info in backend.iter_data()]


def test_a_file_system_that_ignores_case_is_refused(base: Path) -> None:
    # None is at hand: this is how one looks.
    base.mkdir()
    (base / ".locks").mkdir()
    (base / ".LOCKS").symlink_to(".locks")

    with pytest.raises(BackendError, match="upper and lower case"):
        FsDataFactory(base).create()


def test_permissions_are_those_asked_for_less_the_umask(tmp_path: Path) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    umask = os.umask(0o022)
    try:
        with FsDataFactory(tmp_path / "default").create() as backend:
            backend.store_data("abc", b"x")
        with FsDataFactory(tmp_path / "private", dir_mode=0o700, file_mode=0o600).create() as backend:
            backend.store_data("abc", b"x")
            backend.store_data("abc", b"y")
    finally:
        os.umask(umask)

    assert (0o755, 0o755, 0o644) == tuple(mode(tmp_path / "default" / name) for name in ("", "ab", "ab/abc.data"))
    assert (0o700, 0o700, 0o600) == tuple(mode(tmp_path / "private" / name) for name in ("", "ab", "ab/abc.data"))


def test_an_emptied_directory_is_removed(backend: FsDataBackend, base: Path) -> None:
    backend.store_data("abc", b"x")
    backend.store_data("abd", b"x")

    backend.delete_data("abc")
    assert (base / "ab").is_dir()
    backend.delete_data("abd")
    backend.close()

    assert not (base / "ab").exists()


def test_a_directory_that_is_emptied_all_the_time_is_not_removed_each_time(backend: FsDataBackend, base: Path) -> None:
    for _ in range(3):
        backend.store_data("abc", b"x")
        backend.delete_data("abc")
    assert (base / "ab").is_dir()

    backend.close()
    assert not (base / "ab").exists()


def test_more_directories_than_may_be_open_can_be_written(
    backend: FsDataBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retryspool_fs_data.shards._MOST_OPEN", 4)
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    names = [f"{first}{second}" for first in "abc" for second in "0123456789"]

    backend.store_many([(name, name.encode()) for name in names])
    for name in names:
        backend.store_data(name, b"second")

    assert len(list(Path("/proc/self/fd").iterdir())) <= open_before + 8
    assert dict.fromkeys(names, b"second") == backend.fetch_many(names, max_bytes=10)


def test_a_missing_payload_of_a_missing_directory_is_not_found(backend: FsDataBackend) -> None:
    with pytest.raises(DataNotFoundError):
        backend.get_data_reader("zz1")
    backend.delete_data("zz1")
