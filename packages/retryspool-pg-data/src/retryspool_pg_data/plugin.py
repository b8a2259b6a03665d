"""Offers the data backend under the name `pg`."""

from retryspool.data import DataFactory
from retryspool.plugins import hookimpl
from retryspool_pg_data.factory import PgDataFactory

__all__ = ["retryspool_data_factories"]


@hookimpl
def retryspool_data_factories() -> list[type[DataFactory]]:
    """Offer `pg`."""
    return [PgDataFactory]
