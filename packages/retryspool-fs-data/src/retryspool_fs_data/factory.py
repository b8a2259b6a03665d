"""The settings of the data backend on plain files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

from retryspool.data import DataFactory
from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.files import Durability, SyncMode, wrapping_disk_errors
from retryspool.urls import parse_url, redact
from retryspool_fs_data.backend import FsDataBackend
from retryspool_fs_data.store import Store

__all__ = ["FsDataFactory"]


@dataclass(frozen=True, slots=True)
class FsDataFactory(DataFactory):
    """Payloads as plain files under a folder, which is made if it isn't there."""

    name: ClassVar[str] = "fs"

    path: str | os.PathLike[str]
    """The folder; a relative one is taken from the current directory when the backend is made."""
    sync: SyncMode | str = field(default=SyncMode.STANDARD, kw_only=True)
    """What a power cut may take: a mode, or its name."""
    sync_interval: float = field(default=1.0, kw_only=True)
    """How long names may wait in hybrid mode, in seconds."""
    dir_mode: int = field(default=0o755, kw_only=True)
    """The permissions of the directories that are made, less the umask."""
    file_mode: int | None = field(default=None, kw_only=True)
    """The permissions of payloads, less the umask; None for all that it leaves."""

    def __post_init__(self) -> None:
        path = os.fspath(self.path)
        if not path or "\0" in path:
            raise InvalidOptionError(f"path is {path!r}; it must be that of a folder")
        durability = self._durability()
        object.__setattr__(self, "path", path)  # factories of the same settings are equal, however these were given
        object.__setattr__(self, "sync", durability.mode)
        _check_mode("dir_mode", self.dir_mode, needed=0o700)
        if self.file_mode is not None:
            _check_mode("file_mode", self.file_mode, needed=0o600)

    def _durability(self) -> Durability:
        try:
            mode = SyncMode(self.sync)
        except ValueError:
            names = ", ".join(each.value for each in SyncMode)
            raise InvalidOptionError(f"sync is {self.sync!r}; it must be one of {names}") from None
        return Durability(mode, self.sync_interval)

    def create(self) -> FsDataBackend:
        path = os.fspath(self.path)
        with wrapping_disk_errors(f"opening the payloads in {path!r}"):
            return FsDataBackend(
                Store(path, durability=self._durability(), dir_mode=self.dir_mode, file_mode=self.file_mode)
            )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from `fs:///var/spool/data`, or from `fs:spool/data` in the current directory.

        `sync`, `sync_interval` (in seconds), `dir_mode` and `file_mode` (octal) may follow, as in `?sync=hybrid`.
        """
        parsed = parse_url(url, {"sync": str, "sync_interval": float, "dir_mode": _octal, "file_mode": _octal})
        shown = redact(url)
        if parsed.host or parsed.user or parsed.port is not None:
            raise InvalidUrlError(f"{shown!r} names a host; it is fs:///absolute/folder or fs:relative/folder")
        if "#" in url:
            raise InvalidUrlError(f"{shown!r}: a # in the name of a folder is written %23")
        settings = cast("dict[str, Any]", dict(parsed.settings))
        try:
            return cls(parsed.path, **settings)
        except InvalidOptionError as error:
            raise InvalidUrlError(f"{shown!r}: {error}") from None


def _octal(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("it must be in octal digits, such as 0750")
    return int(text, 8)


def _check_mode(name: str, mode: int, *, needed: int) -> None:
    if not 0 <= mode <= 0o7777 or mode & needed != needed:  # noqa: PLR2004 -- all the bits that there are
        raise InvalidOptionError(
            f"{name} is {mode:#o}; it must be from {needed:#o} to 0o7777 and give its owner {needed:#o}, as in 0o755"
        )
