"""The settings of the data backend on plain files."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from retryspool.data import DataFactory
from retryspool.files import FileSettings, remove_folders, wrapping_disk_errors
from retryspool_fs_data.backend import FsDataBackend
from retryspool_fs_data.layout import LOCKS_FOLDER, TEMPORARY_FOLDER, is_shard
from retryspool_fs_data.store import Store

__all__ = ["FsDataFactory"]


@dataclass(frozen=True)
class FsDataFactory(FileSettings, DataFactory):
    """Payloads as plain files in a folder, laid out as the Go system does."""

    name: ClassVar[str] = "fs"

    def create(self) -> FsDataBackend:
        with wrapping_disk_errors(f"opening the payloads in {self.folder!r}"):
            return FsDataBackend(Store(self))

    def destroy(self) -> None:
        """Remove the payloads, and each folder that is empty then: what else lies there isn't ours."""
        DataFactory.destroy(self)
        with wrapping_disk_errors(f"removing the payloads in {self.folder!r}"):
            for name in filter(is_shard, os.listdir(self.folder)):
                with suppress(OSError):
                    os.rmdir(f"{self.folder}/{name}")
            remove_folders(self.folder, (LOCKS_FOLDER, TEMPORARY_FOLDER))
