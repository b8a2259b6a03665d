"""When claimed messages may begin, and which of their destinations are passed over, by a clock of the test's own."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from queue import SimpleQueue

import pytest
from queues import PATIENCE_S, wait_until

from retryspool import MessageMetadata, RouteOptions, State
from retryspool.model import utc_now
from retryspool.queue.lanes import Lanes
from retryspool.queue.message import Job
from retryspool.queue.outcome import Failed, GivenUp, Outcome, PutOff, Released, SetAside, Succeeded
from retryspool.queue.routes import RouteTable

DOWN = Failed("down")
STEADY = RouteOptions(concurrency=4, initial_concurrency=4, rest_s=60, rest_jitter=0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Yard:
    """Lanes, their clock, and what they turned back."""

    def __init__(self, handlers: int = 100, /, **routes: RouteOptions) -> None:
        self.clock = Clock()
        self.turned_back: list[Job] = []
        self.lanes = Lanes(RouteTable(routes), handlers, turn_back=self._turn_back, clock=self.clock)

    def _turn_back(self, jobs: Sequence[Job]) -> None:
        self.turned_back += jobs

    def put(
        self, route: str, count: int = 1, *, priority: int = 5, origin: State = State.INCOMING, alone: bool = False
    ) -> list[Job]:
        jobs = list[Job]()
        for _ in range(count):
            record = MessageMetadata("m", State.ACTIVE, route=route, priority=priority, claimed_from=origin)
            jobs.append(Job(record, math.inf, alone=alone))
            self.lanes.put(jobs[-1])
        return jobs

    def begun(self) -> list[Job]:
        """Take all that may begin now."""
        jobs = list[Job]()
        while (job := self.lanes.take_now()) is not None:
            jobs.append(job)
        return jobs

    def end(self, jobs: Sequence[Job], outcome: Outcome | None) -> None:
        for job in jobs:
            job.outcome = outcome
            self.lanes.done(job)

    def kill(self, route: str) -> None:
        """Let deliveries fail until the route rests."""
        while self.state(route) != "resting":
            self.put(route)
            self.end(self.begun(), DOWN)

    def state(self, route: str) -> str:
        return next((each.state for each in self.lanes.status() if each.route == route), "unknown")

    def rest_s(self) -> float | None:
        """How long the first route that rests will, None if none does."""
        untils = (each.resting_until for each in self.lanes.status())
        return next((round((until - utc_now()).total_seconds()) for until in untils if until), None)


def routes_of(jobs: Sequence[Job]) -> list[str]:
    return [job.record.route for job in jobs]


# -- turns and order ---------------------------------------------------------------------------------------------------


def test_routes_take_turns() -> None:
    yard = Yard()
    for route in ("a", "b", "c"):
        yard.put(route, 3)

    assert ["a", "b", "c"] * 3 == routes_of(yard.begun())


def test_within_a_route_priority_goes_first_then_who_came_first() -> None:
    yard = Yard()
    fives = yard.put("a", 2)
    nine = yard.put("a", priority=9)
    ones = yard.put("a", 2, priority=1)

    assert [*ones, *fives, *nine] == yard.begun()


def test_a_message_is_overtaken_by_so_many_of_better_priority_and_no_more() -> None:
    yard = Yard(a=RouteOptions(concurrency=1))
    (five,) = yard.put("a", priority=5)

    overtaken_by = 0
    while True:
        yard.put("a", priority=1)
        (job,) = yard.begun()
        yard.end([job], Succeeded())
        if job is five:
            break
        overtaken_by += 1

    assert 16 * 4 - 1 == overtaken_by


def test_without_a_route_nothing_is_limited_or_passed_over() -> None:
    yard = Yard()

    yard.put("", 5000)

    assert (frozenset(), 0) == (yard.lanes.exclusions(), yard.lanes.parked)
    assert 5000 == len(yard.begun())


def test_messages_without_a_route_are_limited_where_that_is_asked_for() -> None:
    yard = Yard(**{"": RouteOptions(concurrency=2)})

    yard.put("", 10)

    assert 2 == len(yard.begun())
    assert {""} == yard.lanes.exclusions()


# -- windows -----------------------------------------------------------------------------------------------------------


def test_no_more_of_a_route_run_than_its_window_allows_and_others_go_on() -> None:
    yard = Yard(slow=STEADY)
    yard.put("slow", 10)
    yard.put("well", 3)

    begun = yard.begun()

    assert {"slow": 4, "well": 3} == Counter(routes_of(begun))
    assert 6 == yard.lanes.parked
    yard.end([job for job in begun if job.record.route == "slow"][:1], Succeeded())
    assert ["slow"] == routes_of(yard.begun())


@pytest.mark.parametrize(
    ("outcome", "window"),
    [
        (Succeeded(), 6),
        (Failed("no such user", permanent=True), 6),
        (Failed("mailbox full", concerns="message"), 6),
        (Failed("reset"), 4),
        (Released(), 5),
        (SetAside(), 5),
        (GivenUp("gone"), 5),
        (None, 5),
    ],
)
def test_a_window_goes_by_what_the_destination_said_and_by_nothing_else(outcome: Outcome | None, window: int) -> None:
    yard = Yard()
    yard.put("a")

    yard.end(yard.begun(), outcome)

    (status,) = yard.lanes.status()
    assert (window, 0, 0, "open") == (status.window, status.running, status.waiting, status.state)


def test_a_route_is_passed_over_when_enough_waits_and_claimed_again_when_half_of_it_has_begun() -> None:
    yard = Yard(slow=STEADY)
    yard.put("slow", 7)
    assert frozenset() == yard.lanes.exclusions()
    yard.put("slow", 5)
    running = yard.begun()
    assert ({"slow"}, 8) == (yard.lanes.exclusions(), yard.lanes.parked)

    seen = list[tuple[bool, int]]()
    for _ in range(3):
        yard.end([running.pop()], Succeeded())
        running += yard.begun()
        seen.append(("slow" in yard.lanes.exclusions(), yard.lanes.openings))

    assert [(True, 0), (False, 1), (False, 1)] == seen


def test_a_window_as_wide_as_the_worker_holds_nothing_up() -> None:
    yard = Yard(4, a=STEADY)

    yard.put("a", 500)

    assert (frozenset(), 0) == (yard.lanes.exclusions(), yard.lanes.parked)


def test_what_cannot_begin_is_given_back_from_the_fullest_lane_first_the_last_of_it_first() -> None:
    yard = Yard(slow=STEADY, slower=STEADY)
    slow = yard.put("slow", 20)
    yard.put("slower", 10)
    yard.put("well", 5)
    begun = yard.begun()
    assert 16 + 6 == yard.lanes.parked

    assert slow[:-11:-1] == yard.lanes.give_back(10)
    assert 12 == yard.lanes.parked
    assert 12 == len(yard.lanes.give_back(1000))
    assert [] == yard.lanes.give_back(1000) == yard.lanes.give_back(-5)
    assert (0, {"slow", "slower"}) == (yard.lanes.parked, yard.lanes.exclusions())
    yard.end([job for job in begun if job.record.route == "slow"][:1], Succeeded())
    assert {"slower"} == yard.lanes.exclusions()


# -- rests and probes --------------------------------------------------------------------------------------------------


def test_when_a_route_dies_what_was_claimed_of_it_is_put_off_until_its_next_probe() -> None:
    yard = Yard(dead=STEADY)
    yard.put("dead", 20)
    yard.put("well", 1)
    begun = yard.begun()

    yard.end([job for job in begun if job.record.route == "dead"], DOWN)
    yard.end(yard.begun(), DOWN)

    assert "resting" == yard.state("dead")
    assert {"dead"} == yard.lanes.exclusions() == set(routes_of(yard.turned_back))
    assert 20 == len(yard.turned_back) + 5
    for job in yard.turned_back:
        assert isinstance(job.outcome, PutOff)
        assert "put off: route 'dead' takes nothing now: down" == job.outcome.error
        assert timedelta(seconds=59) < job.outcome.after < timedelta(seconds=61)
    assert [] == yard.lanes.drain()


def test_what_is_claimed_of_a_route_at_rest_goes_back_at_once() -> None:
    yard = Yard(dead=STEADY)
    yard.kill("dead")
    yard.clock.now += 10

    (late,) = yard.put("dead")

    assert [late] == yard.turned_back
    assert isinstance(late.outcome, PutOff)
    assert timedelta(seconds=49) < late.outcome.after <= timedelta(seconds=50)


def test_after_its_rest_one_message_probes_and_success_opens_the_route_again() -> None:
    yard = Yard(dead=RouteOptions(concurrency=20, initial_concurrency=5, rest_s=60, rest_jitter=0))
    yard.kill("dead")
    assert frozenset() == yard.lanes.probes()
    assert 60 == yard.rest_s()
    yard.clock.now += 60

    assert {"dead"} == yard.lanes.probes()
    yard.put("dead", 3)
    assert frozenset() == yard.lanes.probes()
    probe = yard.begun()
    assert (1, "probing") == (len(probe), yard.state("dead"))
    assert {"dead"} == yard.lanes.exclusions()
    openings = yard.lanes.openings
    yard.end(probe, Succeeded())

    assert openings < yard.lanes.openings
    assert ("open", frozenset()) == (yard.state("dead"), yard.lanes.exclusions())
    assert 2 == len(yard.begun())
    assert 5 == yard.lanes.status()[0].window


def test_a_probe_that_fails_puts_off_what_came_with_it_for_longer() -> None:
    yard = Yard(dead=STEADY)
    yard.kill("dead")
    yard.clock.now += 60
    assert {"dead"} == yard.lanes.probes()
    yard.put("dead", 3)
    yard.end(yard.begun(), DOWN)

    assert 2 == len(yard.turned_back)
    assert ("resting", 120) == (yard.state("dead"), yard.rest_s())


def test_a_route_with_nothing_to_probe_with_is_probed_by_the_next_that_comes() -> None:
    yard = Yard(dead=STEADY)
    yard.kill("dead")
    yard.put("well")
    yard.clock.now += 60
    assert {"well"} == yard.lanes.but_for(yard.lanes.probes())

    yard.lanes.forgo_probes(yard.lanes.probes())

    assert (frozenset(), frozenset(), None) == (
        yard.lanes.probes(),
        yard.lanes.exclusions(),
        yard.rest_s(),
    )
    yard.begun()
    yard.put("dead", 3)
    assert ["dead"] == routes_of(yard.begun())
    assert {"dead"} == yard.lanes.exclusions()


def test_a_probe_that_was_never_begun_decides_nothing() -> None:
    yard = Yard(dead=STEADY)
    yard.kill("dead")
    yard.clock.now += 60
    yard.lanes.probes()
    yard.put("dead")

    yard.end(yard.begun(), Released())

    assert ("probing", frozenset()) == (yard.state("dead"), yard.lanes.exclusions())


def test_a_destination_that_says_so_is_left_alone_for_as_long_as_it_says() -> None:
    yard = Yard()
    yard.put("busy", 4)
    first, *others = yard.begun()

    yard.end([first], Failed("429", after=timedelta(seconds=30), route_is_out=True))
    assert (30, {"busy"}) == (yard.rest_s(), yard.lanes.exclusions())
    yard.end(others, Failed("429", after=timedelta(seconds=40), route_is_out=True))
    yard.clock.now += 30
    assert frozenset() == yard.lanes.probes()
    yard.clock.now += 10
    assert {"busy"} == yard.lanes.probes()


def test_bounces_of_a_dead_route_are_handled_all_the_same() -> None:
    yard = Yard(dead=STEADY)
    yard.kill("dead")

    bounces = yard.put("dead", 3, origin=State.BOUNCE)

    assert bounces == yard.begun()
    yard.end(bounces, DOWN)
    assert "resting" == yard.state("dead")


def test_death_and_revival_of_a_route_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="retryspool")
    yard = Yard(dead=STEADY)
    yard.put("dead", 9)
    yard.end(yard.begun(), DOWN)
    yard.end(yard.begun(), DOWN)
    yard.clock.now += 60
    yard.lanes.probes()
    yard.put("dead")
    yard.end(yard.begun(), Succeeded())
    yard.put("dead", 4)
    yard.end(yard.begun(), Succeeded())

    died, revived = caplog.records
    assert "route 'dead': takes nothing, and is left alone for 60.0 s; 4 messages are put off until then: down" == (
        died.getMessage()
    )
    assert ("WARNING", "INFO") == (died.levelname, revived.levelname)
    assert "route 'dead': answers again" == revived.getMessage()
    assert "dead" == vars(died)["route"] == vars(revived)["route"]


# -- alone ------------------------------------------------------------------------------------------------------------


def test_one_that_is_to_run_alone_takes_its_turn_and_from_then_on_nothing_begins_or_is_added_until_it_is_done() -> None:
    yard = Yard()
    (first,) = yard.put("a")
    (alone,) = yard.put("b", alone=True)
    (behind,) = yard.put("b")

    assert [first, alone] == yard.begun()

    assert yard.lanes.is_kept_for_one
    assert yard.put("c") == yard.turned_back
    assert [Released()] == [job.outcome for job in yard.turned_back]
    yard.end([first], Succeeded())
    assert [] == yard.begun()
    openings = yard.lanes.openings
    yard.end([alone], Succeeded())
    assert (False, openings + 1) == (yard.lanes.is_kept_for_one, yard.lanes.openings)
    assert [behind] == yard.begun()


def test_one_that_is_to_run_alone_waits_for_its_destination_like_any_other() -> None:
    yard = Yard(slow=RouteOptions(concurrency=1))
    running = yard.put("slow")
    assert running == yard.begun()
    (alone,) = yard.put("slow", alone=True)
    others = yard.put("well", 2)

    assert others == yard.begun()
    yard.end(running, Succeeded())
    assert [alone] == yard.begun()


@pytest.mark.parametrize("outcome", [Released(), DOWN, None])
def test_however_the_one_that_ran_alone_ends_the_others_go_on(outcome: Outcome | None) -> None:
    yard = Yard()
    alone = yard.put("a", 3, alone=True)

    for job in alone:
        assert [job] == yard.begun()
        yard.end([job], outcome)

    assert yard.put("a") == yard.begun()


def test_all_who_waited_for_the_one_that_ran_alone_go_on_at_once() -> None:
    yard = Yard()
    (alone,) = yard.put("a", alone=True)
    others = [*yard.put("b"), *yard.put("c")]
    assert [alone] == yard.begun()
    came: SimpleQueue[Job | None] = SimpleQueue()
    handlers = [threading.Thread(target=lambda: came.put(yard.lanes.take())) for _ in others]
    for handler in handlers:
        handler.start()
    wait_until(lambda: yard.lanes._sleeping == len(others))

    yard.lanes.done(alone)

    try:
        assert set(others) == {came.get(timeout=PATIENCE_S) for _ in others}
    finally:
        yard.lanes.close()
    for handler in handlers:
        handler.join(PATIENCE_S)


# -- rates -------------------------------------------------------------------------------------------------------------


def test_a_rate_lets_so_many_begin_in_any_span() -> None:
    yard = Yard(metered=RouteOptions(rate="2/10s"))
    yard.put("metered", 5)
    yard.put("other", 5)

    assert {"metered": 2, "other": 5} == Counter(routes_of(yard.begun()))
    for seconds, count in ((9.9, 0), (0.2, 2), (9.8, 0), (0.2, 1)):
        yard.clock.now += seconds
        begun = yard.begun()
        assert count == len(begun)
        yard.end(begun, Succeeded())


@pytest.mark.parametrize("stays", [False, True])
def test_who_waits_for_a_rate_wakes_by_itself(stays: bool) -> None:  # noqa: FBT001 -- the parameter
    """By the real clock: the only timed wait that there is. Whoever takes a message may be away for long."""
    lanes = Lanes(RouteTable({"metered": RouteOptions(rate="1/s")}), 4, turn_back=lambda _: None)
    came = threading.Semaphore(0)
    end = threading.Event()

    def handle() -> None:
        while (job := lanes.take()) is not None:
            came.release()
            if stays:
                end.wait(PATIENCE_S)
            lanes.done(job)

    handlers = [threading.Thread(target=handle) for _ in range(3)]
    for handler in handlers:
        handler.start()
    in_time = list[bool]()
    for number in range(3):
        if number < 2:  # from the second on, there's one already that waits for its time
            wait_until(lambda number=number: lanes._sleeping == 3 - number * stays)
        lanes.put(Job(MessageMetadata("m", State.ACTIVE, route="metered"), math.inf))
        if number != 1:
            in_time.append(came.acquire(timeout=PATIENCE_S))
    in_time.append(came.acquire(timeout=PATIENCE_S))
    end.set()
    lanes.close()
    for handler in handlers:
        handler.join(PATIENCE_S)

    assert [True] * 3 == in_time
    assert not any(handler.is_alive() for handler in handlers)


def test_who_goes_to_work_leaves_the_clock_to_somebody_else() -> None:
    lanes = Lanes(RouteTable({"metered": RouteOptions(rate="1/s")}), 4, turn_back=lambda _: None)
    came: SimpleQueue[str] = SimpleQueue()
    busy, end = threading.Event(), threading.Event()

    def handle() -> None:
        while (job := lanes.take()) is not None:
            came.put(job.record.route)
            if busy.is_set():
                end.wait(PATIENCE_S)
            lanes.done(job)

    handlers = [threading.Thread(target=handle) for _ in range(2)]
    for handler in handlers:
        handler.start()
    in_order = list[str]()
    for route, is_ready in (
        ("metered", lambda: lanes._sleeping == 2),
        ("metered", lambda: lanes._sleeping == 2),
        ("any", lambda: lanes._someone_watches),
    ):
        wait_until(is_ready)
        if route == "any":  # it may well be the one who watches the clock that takes it, and is away from then on
            busy.set()
        lanes.put(Job(MessageMetadata("m", State.ACTIVE, route=route), math.inf))
        if not in_order:
            in_order.append(came.get(timeout=PATIENCE_S))
    in_order += [came.get(timeout=PATIENCE_S / 2) for _ in range(2)]
    end.set()
    lanes.close()
    for handler in handlers:
        handler.join(PATIENCE_S)

    assert ["metered", "any", "metered"] == in_order


# -- keeping house -----------------------------------------------------------------------------------------------------


def test_routes_that_nothing_is_going_on_with_are_forgotten_and_others_never() -> None:
    yard = Yard(dead=STEADY, metered=RouteOptions(rate="1/day"))
    yard.kill("dead")
    yard.put("metered")
    yard.put("running")
    yard.begun()
    for number in range(5000):
        yard.put(f"r{number}")
        yard.end(yard.begun(), Succeeded())

    known = {status.route for status in yard.lanes.status()}
    assert {"dead", "metered", "running"} <= known
    assert len(known) <= 2100


def test_once_closed_nothing_begins_and_what_has_not_is_drained() -> None:
    yard = Yard(a=STEADY)
    yard.put("a", 6)
    yard.put("b", 2, origin=State.BOUNCE)
    running = [yard.lanes.take() for _ in range(2)]

    yard.lanes.close()

    assert yard.lanes.take() is None
    assert yard.lanes.take_now() is None
    left = yard.lanes.drain()
    assert (6, 0) == (len(left), yard.lanes.parked)
    assert not set(running) & set(left)
    assert [] == yard.lanes.drain()


def test_the_status_tells_until_when_a_route_rests_and_why() -> None:
    yard = Yard(dead=STEADY)
    yard.kill("dead")
    yard.put("")
    yard.put("well", 2)
    yard.lanes.take_now()

    nameless, dead, well = yard.lanes.status()

    assert ("", None, 1, 0) == (nameless.route, nameless.window, nameless.running, nameless.waiting)
    assert ("dead", "resting", "down") == (dead.route, dead.state, dead.last_error)
    assert dead.resting_until is not None
    assert timedelta(seconds=59) < dead.resting_until - utc_now() < timedelta(seconds=61)
    assert ("well", "open", 5, 0, 2, None) == (
        well.route,
        well.state,
        well.window,
        well.running,
        well.waiting,
        well.resting_until,
    )
