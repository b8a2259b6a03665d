from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

import pytest
from backends import new_namespace

from retryspool import aio
from retryspool.queue import QueueSettings

OpenQueue = Callable[..., aio.Queue]


@pytest.fixture(params=["memory", "fs", "redis"])
def open_queue(request: pytest.FixtureRequest, tmp_path: Path) -> OpenQueue:
    """Open queues on one empty store of the backend that the test runs on; in memory each has its own."""
    meta, data = "memory:", "memory:"
    if request.param == "fs":
        meta, data = f"fs:{tmp_path}/meta?sync=performance", f"fs:{tmp_path}/data?sync=performance"
    elif request.param == "redis":
        meta = f"{request.getfixturevalue('redis_url')}?namespace={new_namespace()}"
        data = f"fs:{tmp_path}/data?sync=performance"

    def make(threads: int = 8, **settings: Unpack[QueueSettings]) -> aio.Queue:
        return aio.Queue.open(meta=meta, data=data, threads=threads, **{"grace_s": 10, **settings})

    return make
