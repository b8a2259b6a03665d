"""The settings of the metadata backend that keeps records as files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from retryspool.files import FileSettings
from retryspool.meta import MetaFactory
from retryspool_fs_meta.backend import FsMetaBackend

__all__ = ["FsMetaFactory"]


@dataclass(frozen=True)
class FsMetaFactory(FileSettings, MetaFactory):
    """Records as JSON files in a folder, those of the Go system."""

    name: ClassVar[str] = "fs"

    def create(self) -> FsMetaBackend:
        return FsMetaBackend(self)
