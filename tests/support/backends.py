"""The backends that the behaviour tests run on: to try another, add it here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from minimal_backends import MinimalDataFactory, MinimalMetaFactory

from retryspool.data import DataBackend, DataFactory
from retryspool.memory import MemoryDataFactory, MemoryMetaFactory
from retryspool.meta import MetaBackend, MetaFactory
from retryspool_fs_data import FsDataFactory
from retryspool_fs_meta import FsMetaFactory

META_FACTORIES: dict[str, Callable[[Path], MetaFactory]] = {
    "minimal": lambda _: MinimalMetaFactory(),
    "memory": lambda _: MemoryMetaFactory(),
    "fs": FsMetaFactory,
}
DATA_FACTORIES: dict[str, Callable[[Path], DataFactory]] = {
    "minimal": lambda _: MinimalDataFactory(),
    "memory": lambda _: MemoryDataFactory(),
    "fs": FsDataFactory,
}
"""Each makes the factory of an empty store, from an empty folder of its own."""

NewMetaFactory = Callable[[], MetaFactory]
NewDataFactory = Callable[[], DataFactory]
NewMeta = Callable[[], MetaBackend]
NewData = Callable[[], DataBackend]
