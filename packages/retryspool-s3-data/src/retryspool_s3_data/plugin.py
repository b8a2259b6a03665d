"""Offers the data backend under the name `s3`."""

from retryspool.data import DataFactory
from retryspool.plugins import hookimpl
from retryspool_s3_data.factory import S3DataFactory

__all__ = ["retryspool_data_factories"]


@hookimpl
def retryspool_data_factories() -> list[type[DataFactory]]:
    """Offer `s3`."""
    return [S3DataFactory]
