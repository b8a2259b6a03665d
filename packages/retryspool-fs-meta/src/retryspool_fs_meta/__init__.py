"""RetrySpool's message records as plain files."""

import logging as _logging

from retryspool_fs_meta.backend import FsMetaBackend
from retryspool_fs_meta.factory import FsMetaFactory

__all__ = ["FsMetaBackend", "FsMetaFactory"]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
