"""Offers the data backend under the name `fs`."""

from retryspool.data import DataFactory
from retryspool.plugins import hookimpl
from retryspool_fs_data.factory import FsDataFactory

__all__ = ["retryspool_data_factories"]


@hookimpl
def retryspool_data_factories() -> list[type[DataFactory]]:
    """Offer `fs`."""
    return [FsDataFactory]
