from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Unpack

import pytest
from queues import NewQueue, unchecked_options

from retryspool import Queue, QueueOptions, RetryPolicy, RouteOptions, Spool
from retryspool.memory import MemoryDataFactory, MemoryMetaFactory
from retryspool.queue import QueueSettings


@pytest.fixture
def new_queue() -> Iterator[NewQueue]:
    """Make queues on one store in memory, or on another that is passed in; all are closed at the end."""
    meta, data = MemoryMetaFactory(), MemoryDataFactory()
    with ExitStack() as opened:

        def make(
            *,
            spool: Spool | None = None,
            policies: Mapping[str, RetryPolicy] | None = None,
            routes: Mapping[str, RouteOptions] | None = None,
            unchecked: dict[str, float] | None = None,
            **settings: Unpack[QueueSettings],
        ) -> Queue:
            settings = {"grace_s": 10, **settings}
            options = unchecked_options(QueueOptions(**settings), unchecked or {})
            queue = Queue(spool or Spool(meta.create(), data.create()), options, policies=policies, routes=routes)
            opened.callback(queue.close)
            return queue

        yield make


@pytest.fixture
def queue(new_queue: NewQueue) -> Queue:
    return new_queue()
