"""RetrySpool's message records as plain files."""

from retryspool_fs_meta.backend import FsMetaBackend
from retryspool_fs_meta.factory import FsMetaFactory

__all__ = ["FsMetaBackend", "FsMetaFactory"]
