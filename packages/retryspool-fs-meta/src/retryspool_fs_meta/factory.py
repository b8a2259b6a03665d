"""The settings of the metadata backend that keeps records as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.files import SyncMode
from retryspool.meta import MetaFactory
from retryspool.urls import parse_url
from retryspool_fs_meta.backend import FsMetaBackend

__all__ = ["FsMetaFactory"]

_MODES = 0o7777


@dataclass(frozen=True, slots=True)
class FsMetaFactory(MetaFactory):
    """Records as JSON files in a folder, those of the Go system.

    :raises InvalidOptionError: a setting is out of its range
    """

    name: ClassVar[str] = "fs"

    path: str | Path
    """The folder; it's made if it isn't there."""
    sync: SyncMode | str = SyncMode.STANDARD
    """What a power cut may take: a mode, or its name."""
    sync_interval: float = 1.0
    """In hybrid mode: within how many seconds names are synced."""
    dir_mode: int = 0o755
    """The permissions of folders that are made, less the umask's."""
    file_mode: int | None = None
    """The permissions of files; None leaves them to the umask."""

    def __post_init__(self) -> None:
        if not str(self.path):
            msg = "path is empty; it must name a folder"
            raise InvalidOptionError(msg)
        try:
            object.__setattr__(self, "sync", SyncMode(self.sync))
        except ValueError:
            msg = f"sync is {self.sync!r}; it must be one of {', '.join(mode.value for mode in SyncMode)}"
            raise InvalidOptionError(msg) from None
        for option in ("dir_mode", "file_mode"):
            mode = getattr(self, option)
            if mode is not None and not 0 <= mode <= _MODES:
                msg = f"{option} is {mode:#o}; it must be between 0 and {_MODES:#o}"
                raise InvalidOptionError(msg)

    def create(self) -> FsMetaBackend:
        """Open the records, and make their folder if it isn't there."""
        return FsMetaBackend(
            Path(self.path).absolute(),
            sync=SyncMode(self.sync),
            sync_interval_s=self.sync_interval,
            dir_mode=self.dir_mode,
            file_mode=self.file_mode,
        )

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from `fs:///var/spool/x?sync=hybrid`, or from a relative path: `fs:spool/x`."""
        parsed = parse_url(url, {"sync": SyncMode, "sync_interval": float, "dir_mode": _octal, "file_mode": _octal})
        if parsed.host or parsed.port or parsed.user:
            msg = f"{url!r} names a host; it is fs:///absolute/folder or fs:relative/folder"
            raise InvalidUrlError(msg)
        if not parsed.path:
            msg = f"{url!r} has no path; it must name a folder, such as fs:///var/spool/x"
            raise InvalidUrlError(msg)
        return cls(parsed.path, **parsed.settings)  # type: ignore[arg-type]  # converted by the functions above


def _octal(text: str) -> int:
    return int(text, 8)
