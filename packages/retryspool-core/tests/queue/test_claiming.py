"""Which messages a worker asks for next."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

import pytest

from retryspool import BackendUnavailableError, MessageMetadata, QueueOptions, RouteOptions, State
from retryspool.memory import MemoryMeta
from retryspool.queue.claiming import Claiming
from retryspool.queue.lanes import Lanes
from retryspool.queue.message import Job
from retryspool.queue.outcome import Failed
from retryspool.queue.routes import RouteTable

NOBODY: frozenset[str] = frozenset()
BOTH = [State.INCOMING, State.BOUNCE]


class Asked(MemoryMeta):
    """Records in memory, with a note of what was asked for; claims from `failing` fail."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[list[State], int, set[str], bool]] = []
        self.failing: State | None = None

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
        self.asked.append((list(sources), limit, set(exclude_routes), oldest_first))
        if self.failing in sources:
            msg = "no"
            raise BackendUnavailableError(msg, outcome="none")
        return super().claim(
            sources,
            limit=limit,
            lease=lease,
            owner=owner,
            exclude_routes=exclude_routes,
            oldest_first=oldest_first,
        )

    def fill(self, route: str, count: int, state: State = State.INCOMING) -> None:
        for number in range(count):
            self.store_meta(
                f"{route}-{state}-{number}", MessageMetadata(f"{route}-{state}-{number}", state, route=route)
            )


class Worker:
    """What a worker has to claim with, and a clock of the test's own."""

    def __init__(self, *, ageing: float = 0) -> None:
        self.now = 0.0
        self.meta = Asked()
        table = RouteTable({"dead": RouteOptions(dead_after=0.2, rest_s=60, rest_jitter=0)})
        self.lanes = Lanes(table, 100, turn_back=lambda _: None, clock=lambda: self.now)
        self.claiming = Claiming(self.meta, QueueOptions(ageing=ageing), self.lanes, "me")

    def claim(self, limit: int, sources: Sequence[State] = BOTH) -> list[str]:
        """Claim, and let what was claimed wait; return the routes."""
        claimed = self.claiming.claim(sources, limit, NOBODY)
        for record in claimed:
            self.lanes.put(Job(record, 0))
        return [record.route for record in claimed]

    def kill(self) -> None:
        """Let the destination `dead` rest."""
        job = Job(MessageMetadata("m", State.ACTIVE, route="dead"), 0)
        self.lanes.put(job)
        while self.lanes.take_now() is not job:
            pass
        job.outcome = Failed("down")
        self.lanes.done(job)


def test_one_message_is_claimed_to_probe_with_whatever_waits_for_others() -> None:
    worker = Worker()
    worker.meta.fill("a", 10)
    assert ["a"] == worker.claim(1)
    worker.kill()
    worker.meta.fill("dead", 10)
    worker.now = 60

    assert ["dead"] == worker.claim(5)
    assert not worker.claiming.is_all
    assert {"a"} == worker.meta.asked[-1][2]
    assert ["a"] * 9 == worker.claim(50)
    assert worker.claiming.is_all


def test_where_there_is_nothing_to_probe_with_claims_go_on() -> None:
    worker = Worker()
    worker.kill()
    worker.meta.fill("a", 3)
    worker.now = 60

    claims = [worker.claim(5) for _ in range(3)]

    assert [["a"], ["a", "a"], []] == claims  # an unknown route may be the one that is looked for
    worker.meta.fill("dead", 1)
    assert ["dead"] == worker.claim(5)


def test_routes_that_rest_are_passed_over_but_for_their_bounces_each_source_first_in_turn() -> None:
    worker = Worker()
    worker.kill()
    for state in BOTH:
        worker.meta.fill("dead", 2, state)
        worker.meta.fill("a", 2, state)

    assert ["a", "a", "a"] == worker.claim(3)
    assert [([State.INCOMING], 3, {"dead"}, False), ([State.BOUNCE], 1, set[str](), False)] == worker.meta.asked
    assert ["a", "dead", "dead"] == worker.claim(5, [State.BOUNCE, State.INCOMING])
    assert worker.claiming.has_passed_over


def test_what_is_claimed_is_handed_out_even_if_the_next_source_fails() -> None:
    worker = Worker()
    worker.kill()
    worker.meta.fill("a", 2)
    worker.meta.failing = State.BOUNCE

    assert ["a", "a"] == worker.claim(5)
    with pytest.raises(BackendUnavailableError):
        worker.claim(5)


def test_a_route_that_had_its_turn_waits_for_the_others() -> None:
    worker = Worker()
    worker.meta.fill("a", 30)
    worker.meta.fill("b", 12)
    worker.meta.fill("c", 2)

    claims = [worker.claim(5) for _ in range(4)]

    assert ["a"] * 5 == claims[0]
    assert ["b"] * 5 == claims[1]
    assert ["c", "c", "a", "a", "a"] == claims[2]  # the others are through: the next round
    assert worker.claiming.is_all is False
    assert ["a"] * 5 == claims[3]


def test_a_share_of_claims_goes_by_age() -> None:
    worker = Worker(ageing=0.25)

    for _ in range(12):
        worker.claim(1)

    assert [False, False, False, True] * 3 == [oldest_first for *_, oldest_first in worker.meta.asked]
