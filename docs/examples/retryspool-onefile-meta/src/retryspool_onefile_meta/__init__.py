"""RetrySpool's message records, all in one JSON file."""

from retryspool_onefile_meta.backend import OneFileMeta
from retryspool_onefile_meta.factory import OneFileMetaFactory

__all__ = ["OneFileMeta", "OneFileMetaFactory"]
