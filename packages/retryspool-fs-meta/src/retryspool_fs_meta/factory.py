"""The settings of the metadata backend that keeps records as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from retryspool.errors import InvalidOptionError
from retryspool.files import FileSettings, remove_folders, wrapping_disk_errors
from retryspool.meta import MetaFactory
from retryspool_fs_meta.backend import FsMetaBackend
from retryspool_fs_meta.layout import FOLDERS

__all__ = ["FsMetaFactory"]

_LONGEST_S = 3600


@dataclass(frozen=True)
class FsMetaFactory(FileSettings, MetaFactory):
    """Records as JSON files in a folder, those of the Go system."""

    name: ClassVar[str] = "fs"
    url_settings: ClassVar[Mapping[str, Callable[[str], object]]] = {
        **FileSettings.url_settings,
        "lock_timeout": float,
    }

    lock_timeout: float = field(default=30.0, kw_only=True)
    """How long a message that another process has locked is waited for at most, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.lock_timeout <= _LONGEST_S:
            raise InvalidOptionError(
                f"lock_timeout is {self.lock_timeout}; it must be more than 0 and at most {_LONGEST_S} seconds"
            )

    def create(self) -> FsMetaBackend:
        return FsMetaBackend(self, lock_timeout_s=self.lock_timeout)

    def destroy(self) -> None:
        """Remove the folders of the store; the folder around them only if nothing else is in it."""
        with wrapping_disk_errors(f"removing the records in {self.folder!r}"):
            remove_folders(self.folder, FOLDERS)
