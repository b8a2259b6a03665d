"""The settings of the metadata backend that keeps records as files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from retryspool.files import FileSettings, remove_folders, wrapping_disk_errors
from retryspool.meta import MetaFactory
from retryspool_fs_meta.backend import FsMetaBackend
from retryspool_fs_meta.layout import FOLDERS

__all__ = ["FsMetaFactory"]


@dataclass(frozen=True)
class FsMetaFactory(FileSettings, MetaFactory):
    """Records as JSON files in a folder, those of the Go system."""

    name: ClassVar[str] = "fs"

    def create(self) -> FsMetaBackend:
        return FsMetaBackend(self)

    def destroy(self) -> None:
        """Remove the folders of the store; the folder around them only if nothing else is in it."""
        with wrapping_disk_errors(f"removing the records in {self.folder!r}"):
            remove_folders(self.folder, FOLDERS)
