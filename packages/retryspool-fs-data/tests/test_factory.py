"""Settings, by keyword and by URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retryspool.errors import BackendError, InvalidOptionError, InvalidUrlError
from retryspool.plugins import get_data_factory, open_data
from retryspool_fs_data import FsDataBackend, FsDataFactory, SyncMode


def test_the_backend_is_found_by_its_name() -> None:
    assert FsDataFactory is get_data_factory("fs")


def test_the_backend_is_opened_by_url(tmp_path: Path) -> None:
    with open_data(f"fs://{tmp_path}/spool?sync=hybrid") as backend:
        assert isinstance(backend, FsDataBackend)
        assert f"FsDataBackend('{tmp_path}/spool', sync='hybrid')" == repr(backend)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("fs:///var/spool/x", FsDataFactory("/var/spool/x")),
        ("fs:/var/spool/x", FsDataFactory("/var/spool/x")),
        ("fs:spool/data", FsDataFactory("spool/data")),
        ("fs:./spool", FsDataFactory("./spool")),
        ("fs:///a%20b%23", FsDataFactory("/a b#")),
        (
            "fs:///x?sync=hybrid&sync_interval=0.5&dir_mode=0750&file_mode=640",
            FsDataFactory("/x", sync=SyncMode.HYBRID, sync_interval=0.5, dir_mode=0o750, file_mode=0o640),
        ),
    ],
)
def test_a_url_says_what_the_settings_are(url: str, expected: FsDataFactory) -> None:
    assert expected == FsDataFactory.from_url(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("fs://spool/data", "names a host; it is fs:///absolute/folder or fs:relative/folder"),
        ("fs://localhost/var", "names a host"),
        ("fs:", "path"),
        ("fs:///x%00", "path"),
        ("fs:///x#y", "%23"),
        ("fs:///x?sync=often", "standard, hybrid, performance"),
        ("fs:///x?synch=hybrid", "sync, sync_interval"),
        ("fs:///x?sync_interval=0", "more than 0"),
        ("fs:///x?sync_interval=nan", "more than 0"),
        ("fs:///x?dir_mode=rwx", "octal"),
        ("fs:///x?dir_mode=0988", "dir_mode"),
        ("fs:///x?dir_mode=0055", "0o700"),
        ("fs:///x?file_mode=0077", "0o600"),
    ],
)
def test_a_url_that_is_wrong_is_refused(url: str, says: str) -> None:
    with pytest.raises(InvalidUrlError, match=says):
        FsDataFactory.from_url(url)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"path": ""}, "path is ''"),
        ({"path": "a\0b"}, "path"),
        ({"sync": "often"}, "sync is 'often'; it must be one of standard, hybrid, performance"),
        ({"sync_interval": 0}, "sync_interval is 0; it must be more than 0 and at most 3600"),
        ({"sync_interval": 4000}, "sync_interval is 4000"),
        ({"dir_mode": 0o600}, "dir_mode is 0o600; it must"),
        ({"dir_mode": 0o10755}, "dir_mode is 0o10755"),
        ({"file_mode": 0o400}, "file_mode is 0o400"),
    ],
)
def test_an_option_out_of_range_is_refused_when_the_factory_is_made(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOptionError, match=says):
        FsDataFactory(**{"path": "x", **settings})


def test_a_relative_folder_stays_the_same_when_the_directory_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with FsDataFactory("spool").create() as backend:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        backend.store_data("abc", b"x")

    assert (tmp_path / "spool" / "ab" / "abc.data").is_file()


def test_a_path_that_is_a_file_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BackendError, match="opening the payloads"):
            FsDataFactory(path).create()
