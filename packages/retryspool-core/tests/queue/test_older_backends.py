"""A backend that was written for version 1.0 of the contract works, without what came later."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import ClassVar

import pytest
from minimal_backends import MinimalDataFactory, MinimalMeta, MinimalMetaFactory

from retryspool import NotSupportedError, Outgoing, Queue, QueueOptions, Spool
from retryspool.meta import MetaCapabilities
from retryspool.model import MessageMetadata, State


class Older(MinimalMeta):
    """Knows no order of claims but priority, no notes and no transactions."""

    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(processes=False, durable=False, server_clock=False)

    def claim(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride] -- so it was in 1.0
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
    ) -> list[MessageMetadata]:
        return super().claim(sources, limit=limit, lease=lease, owner=owner, exclude_routes=exclude_routes)


class Newer(MinimalMeta):
    """Notes down whether it was asked for the oldest."""

    asked: ClassVar[list[bool]] = []

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        self.asked.append(oldest_first)
        return super().claim(
            sources, limit=limit, lease=lease, owner=owner, exclude_routes=exclude_routes, oldest_first=oldest_first
        )


def open_queue(kind: type[MinimalMeta]) -> Queue:
    factory = MinimalMetaFactory()
    spool = Spool(kind(factory.stored, factory.lock), MinimalDataFactory().create())
    return Queue(spool, QueueOptions(ageing=1, concurrency=1, batch_size=1, on_success="archive"))


@pytest.mark.parametrize("kind", [Older, Newer])
def test_an_older_backend_is_worked_though_it_can_not_be_asked_for_the_oldest(kind: type[MinimalMeta]) -> None:
    Newer.asked.clear()
    with open_queue(kind) as queue:
        handled: list[int] = []
        queue.add_handler(lambda message, _: handled.append(message.priority))
        stored = queue.enqueue_many([Outgoing(payload=b"x", priority=priority) for priority in (5, 1, 9)])
        assert [MessageMetadata] * 3 == [type(each) for each in stored]

        queue.run(until_idle=True)

        assert 3 == queue.count(State.ARCHIVED)
        assert ([1, 5, 9] if kind is Older else [5, 1, 9]) == handled
        assert {True} == set(Newer.asked) or kind is Older


def test_what_an_older_backend_can_not_do_is_refused_and_nothing_is_changed() -> None:
    with open_queue(Older) as queue:
        with pytest.raises(NotSupportedError):
            queue.pause()
        with pytest.raises(NotSupportedError):
            queue.enqueue(b"x", transaction=object())

        assert queue.paused().spool is None
        assert 0 == queue.count(State.INCOMING)
