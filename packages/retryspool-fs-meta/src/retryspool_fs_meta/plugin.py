"""What this distribution offers to RetrySpool."""

from retryspool import hookimpl
from retryspool_fs_meta.factory import FsMetaFactory

__all__ = ["retryspool_meta_factories"]


@hookimpl
def retryspool_meta_factories() -> list[type[FsMetaFactory]]:
    """Offer the `fs` backend."""
    return [FsMetaFactory]
