"""RetrySpool's message payloads as plain files."""

import logging as _logging

from retryspool.files import SyncMode
from retryspool_fs_data.backend import FsDataBackend
from retryspool_fs_data.factory import FsDataFactory

__all__ = ["FsDataBackend", "FsDataFactory", "SyncMode"]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
