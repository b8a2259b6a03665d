"""Offers the in-memory backends under the name `memory`, as any distribution offers its own."""

from retryspool.data import DataFactory
from retryspool.memory import MemoryDataFactory, MemoryMetaFactory
from retryspool.meta import MetaFactory
from retryspool.plugins import hookimpl

__all__ = ["retryspool_data_factories", "retryspool_meta_factories"]


@hookimpl
def retryspool_meta_factories() -> list[type[MetaFactory]]:
    """Offer `memory`."""
    return [MemoryMetaFactory]


@hookimpl
def retryspool_data_factories() -> list[type[DataFactory]]:
    """Offer `memory`."""
    return [MemoryDataFactory]
