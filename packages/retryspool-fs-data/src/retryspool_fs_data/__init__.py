"""RetrySpool's message payloads as plain files."""

from retryspool.files import SyncMode
from retryspool_fs_data.backend import FsDataBackend
from retryspool_fs_data.factory import FsDataFactory

__all__ = ["FsDataBackend", "FsDataFactory", "SyncMode"]
