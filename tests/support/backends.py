"""The backends that the behaviour tests run on: to try another, add it here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from minimal_backends import MinimalMetaFactory

from retryspool.memory import MemoryMetaFactory
from retryspool.meta import MetaBackend, MetaFactory
from retryspool_fs_meta import FsMetaFactory

META_FACTORIES: dict[str, Callable[[Path], MetaFactory]] = {
    "minimal": lambda _: MinimalMetaFactory(),
    "memory": lambda _: MemoryMetaFactory(),
    "fs": FsMetaFactory,
}
"""Each makes the factory of an empty store, from an empty folder of its own."""

META_SERVERS = {"redis": "redis_url"}
"""Those on servers: the fixture that gives the URL. Each store is a namespace of its own there."""
SERVER_MARKS = {"redis_url": "redis", "pg_url": "pg", "s3_url": "s3", "moto_url": "s3"}
"""The mark by which a run leaves a server out, as in `-m "not s3"`."""


def new_namespace() -> str:
    """Return a namespace that nobody has used."""
    return f"t{uuid4().hex[:24]}"


NewMetaFactory = Callable[[], MetaFactory]
NewMeta = Callable[[], MetaBackend]
