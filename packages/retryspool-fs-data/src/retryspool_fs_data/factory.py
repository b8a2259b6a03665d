"""The settings of the data backend on plain files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from retryspool.data import DataFactory
from retryspool.files import FileSettings, wrapping_disk_errors
from retryspool_fs_data.backend import FsDataBackend
from retryspool_fs_data.store import Store

__all__ = ["FsDataFactory"]


@dataclass(frozen=True)
class FsDataFactory(FileSettings, DataFactory):
    """Payloads as plain files in a folder, laid out as the Go system does."""

    name: ClassVar[str] = "fs"

    def create(self) -> FsDataBackend:
        with wrapping_disk_errors(f"opening the payloads in {self.folder!r}"):
            return FsDataBackend(Store(self))
