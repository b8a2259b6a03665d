"""What a worker does with destinations that are down, slow, or to be spared."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Protocol, Unpack

import pytest
from backends import new_namespace
from queues import PATIENCE_S, Gate, NewQueue, Recorder, wait_until

from retryspool import (
    FixedRetry,
    Message,
    PermanentError,
    Queue,
    RetryableError,
    RouteError,
    RouteOptions,
    Spool,
    State,
)
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.model import utc_now
from retryspool.queue import Outgoing, QueueSettings

QUICK = {"quick": FixedRetry(0.05, jitter=0)}
RESTING = RouteOptions(rest_s=3600, rest_jitter=0)


class OpenQueue(Protocol):
    """Open a queue on an empty store of the backend that the test runs on."""

    def __call__(
        self, *, routes: dict[str, RouteOptions] | None = None, **settings: Unpack[QueueSettings]
    ) -> Queue: ...


@pytest.fixture(params=["memory", "fs", "redis"])
def open_queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenQueue]:
    meta = "memory:"
    if request.param == "fs":
        meta = f"fs:{tmp_path}/meta?sync=performance"
    elif request.param == "redis":
        meta = f"{request.getfixturevalue('redis_url')}?namespace={new_namespace()}"
    with ExitStack() as opened:

        def make(*, routes: dict[str, RouteOptions] | None = None, **settings: Unpack[QueueSettings]) -> Queue:
            return opened.enter_context(
                Queue.open(meta=meta, data="memory:", policies=QUICK, routes=routes, **settings)
            )

        yield make


def fill(queue: Queue, route: str, count: int, *, priority: int = 5) -> None:
    queue.enqueue_many(Outgoing(payload=b"", route=route, priority=priority) for _ in range(count))


class Destinations:
    """A handler whose destinations are down or not, and which notes who was tried when, and how many at once."""

    def __init__(self, *down: str, then: Callable[[Message], object] = lambda _: None) -> None:
        self.down = set(down)
        self.tried: list[str] = []
        self.times: list[float] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._then = then
        self._lock = threading.Lock()

    def __call__(self, message: Message, _payload: BinaryIO) -> None:
        route = message.route
        with self._lock:
            self.tried.append(route)
            self.times.append(time.monotonic())
            self.running[route] += 1
            self.most[route] = max(self.most[route], self.running[route])
        try:
            self._then(message)
        finally:
            with self._lock:
                self.running[route] -= 1
        if route in self.down:
            msg = f"{route} is down"
            raise ConnectionRefusedError(msg)

    def count(self, route: str) -> int:
        return self.tried.count(route)


def test_a_dead_destination_costs_a_few_attempts_and_its_other_messages_none(open_queue: OpenQueue) -> None:
    queue = open_queue(routes={"dead": RESTING}, retry_policy="quick")
    queue.add_handler(handler := Destinations("dead"))
    fill(queue, "dead", 400)
    fill(queue, "well", 50)

    queue.run(until_idle=True)

    assert 50 == handler.count("well")
    assert 5 <= handler.count("dead") <= 5 + 8  # what ran when the fifth failed
    (status,) = [status for status in queue.routes() if status.route == "dead"]
    assert ("resting", "ConnectionRefusedError: dead is down") == (status.state, status.last_error)
    assert status.resting_until is not None
    put_off = [record for record in queue.iter(State.DEFERRED) if not record.attempts]
    assert {0} == {record.deliveries for record in put_off}
    assert {"put off: route 'dead' takes nothing now: ConnectionRefusedError: dead is down"} == {
        record.last_error for record in put_off
    }
    assert all(abs(record.next_retry - status.resting_until) < timedelta(seconds=5) for record in put_off)
    untouched = list(queue.iter(State.INCOMING))
    assert {1} == {record.version for record in untouched}  # not written once since they came
    assert 400 == len(untouched) + len(put_off) + handler.count("dead")
    assert len(put_off) == queue.counters.snapshot()["put_off"] <= 200


def test_when_it_answers_again_all_its_messages_are_delivered(open_queue: OpenQueue) -> None:
    routes = {"dead": RouteOptions(rest_s=0.2, rest_factor=1)}
    queue = open_queue(routes=routes, retry_policy="quick", max_attempts=1000, poll_s=1)
    queue.add_handler(handler := Destinations("dead"))
    fill(queue, "dead", 100)
    queue.start()
    wait_until(lambda: any(status.state == "resting" for status in queue.routes()))
    wait_until(lambda: handler.count("dead") >= 8)  # probes, too

    handler.down.clear()

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 100)
    assert {"open"} == {status.state for status in queue.routes()}
    assert handler.count("dead") < 100 + 50


def test_a_new_message_for_another_destination_starts_at_once_beside_a_dead_one(open_queue: OpenQueue) -> None:
    queue = open_queue(routes={"dead": RESTING}, poll_s=60)
    queue.add_handler(handler := Destinations("dead"))
    fill(queue, "dead", 500)
    queue.start()
    wait_until(lambda: any(status.state == "resting" for status in queue.routes()))
    wait_until(lambda: not queue.count(State.ACTIVE))
    before = handler.count("dead")

    slowest_s = 0.0
    for number in range(20):
        began = time.monotonic()
        queue.enqueue(b"", route=f"well-{number % 3}")
        wait_until(lambda number=number: len(handler.tried) == before + number + 1)
        slowest_s = max(slowest_s, time.monotonic() - began)

    assert slowest_s < 1
    assert before == handler.count("dead")


def test_a_deferred_message_is_tried_in_time_beside_a_dead_destination(new_queue: NewQueue) -> None:
    queue = new_queue(routes={"dead": RESTING}, poll_s=60)
    queue.add_handler(handler := Destinations("dead"))
    fill(queue, "dead", 100)
    queue.start()
    wait_until(lambda: any(status.state == "resting" for status in queue.routes()))
    threading.Event().wait(1.5)  # until the worker looks as seldom as it ever does

    due = utc_now() + timedelta(seconds=4)
    queue.enqueue(b"", route="well", not_before=due)
    wait_until(lambda: handler.count("well"))

    assert timedelta(0) <= utc_now() - due < timedelta(seconds=2)


def test_a_destination_is_given_no_more_at_once_than_its_limit(new_queue: NewQueue) -> None:
    gate = threading.Event()
    routes = {"one": RouteOptions(concurrency=1), "*": RouteOptions(initial_concurrency=3)}
    queue = new_queue(routes=routes, concurrency=32)
    queue.add_handler(handler := Destinations(then=lambda _: gate.wait(PATIENCE_S)))
    for route in ("one", "many", ""):
        fill(queue, route, 40)
    queue.start()
    wait_until(lambda: sum(handler.running.values()) == 32)

    assert {"one": 1, "many": 3, "": 28} == handler.running
    gate.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 120)
    assert 1 == handler.most["one"]
    assert handler.most["many"] <= 20


def test_a_slow_destination_leaves_room_for_the_others_however_much_waits_for_it(open_queue: OpenQueue) -> None:
    queue = open_queue(routes={"slow": RouteOptions(concurrency=2)}, max_active=20, batch_size=20)
    gate = threading.Event()
    queue.add_handler(handler := Destinations(then=lambda message: message.route != "slow" or gate.wait(PATIENCE_S)))
    fill(queue, "slow", 300)
    queue.start()
    wait_until(lambda: handler.running["slow"] == 2)

    fill(queue, "well", 100)

    wait_until(lambda: handler.count("well") == 100)
    assert 2 == handler.count("slow")
    assert queue.count(State.ACTIVE) <= 20
    gate.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 400)
    assert 2 == handler.most["slow"]


def test_destinations_that_wait_for_their_rate_leave_room_however_many_there_are(open_queue: OpenQueue) -> None:
    """Each lets one begin a day: more of them than may be claimed at once, with ten messages each."""
    routes = {"metered-*": RouteOptions(rate="1/day")}
    queue = open_queue(routes=routes, max_active=20, batch_size=20, on_success="archive")
    queue.add_handler(handler := Destinations())
    for number in range(30):
        fill(queue, f"metered-{number}", 10)
    queue.start()
    wait_until(lambda: len(handler.tried) == 30)

    fill(queue, "well", 50)

    wait_until(lambda: handler.count("well") == 50)
    queue.stop()
    assert queue.counters.snapshot()["released"]
    assert (80, 270) == (queue.count(State.ARCHIVED), queue.count(State.INCOMING))
    assert {0} == {record.deliveries for record in queue.iter(State.INCOMING)}


def test_a_narrow_destination_is_kept_busy(open_queue: OpenQueue) -> None:
    """Also beside a dead one, whose messages are due all the time."""
    routes = {"narrow": RouteOptions(concurrency=2), "dead": RouteOptions(dead_after=0.2, rest_s=3600)}
    queue = open_queue(routes=routes, poll_s=60, batch_size=4)
    queue.add_handler(handler := Destinations("dead"))
    fill(queue, "dead", 100)
    queue.start()
    wait_until(lambda: any(status.state == "resting" for status in queue.routes()))

    fill(queue, "narrow", 300)

    wait_until(lambda: handler.count("narrow") == 300)
    assert handler.most["narrow"] <= 2


class _Deaf(MemoryMeta):
    """Records in memory whose changes nobody is told of."""

    def wait_for_change(self, timeout: float) -> bool:
        threading.Event().wait(timeout)
        return False


def test_a_narrow_destination_is_kept_busy_where_no_backend_tells_of_changes(new_queue: NewQueue) -> None:
    routes = {"narrow": RouteOptions(concurrency=2), "dead": RouteOptions(dead_after=0.2, rest_s=3600)}
    queue = new_queue(spool=Spool(_Deaf(), MemoryData()), routes=routes, poll_s=60, batch_size=4)
    queue.add_handler(handler := Destinations("dead"))
    fill(queue, "dead", 20)
    fill(queue, "narrow", 200)
    queue.start()

    wait_until(lambda: handler.count("narrow") == 200)


def test_a_destination_that_has_no_message_left_when_its_rest_is_over_keeps_nobody(open_queue: OpenQueue) -> None:
    queue = open_queue(routes={"dead": RouteOptions(rest_s=0.3, dead_after=0.2, rest_jitter=0)}, poll_s=1)
    queue.add_handler(handler := Destinations("dead"))
    fill(queue, "dead", 1)
    queue.start()
    wait_until(lambda: any(status.state == "resting" for status in queue.routes()))
    wait_until(lambda: not queue.count(State.ACTIVE))
    handler.down.clear()

    for route in ("well", "dead"):
        wait_until(lambda: queue.routes()[0].state == "probing")
        fill(queue, route, 3)
        wait_until(lambda route=route: handler.count(route) >= 3)

    wait_until(lambda: queue.counters.snapshot()["delivered"] == 6)
    assert {"open"} == {status.state for status in queue.routes()}


def test_many_slow_destinations_with_old_messages_let_a_new_one_have_its_turn(open_queue: OpenQueue) -> None:
    """Twice as many as there are handlers, and as long a backlog each: they never fill all turns."""
    queue = open_queue(concurrency=2, batch_size=10)
    queue.add_handler(handler := Destinations(then=lambda _: threading.Event().wait(0.001)))
    for number in range(30):
        fill(queue, f"slow-{number}", 30)
    fill(queue, "well", 1)

    queue.run(until_idle=True)

    assert 901 == len(handler.tried)
    assert handler.tried.index("well") < 30 * 10 + 50  # one round of turns, each of up to a batch


def test_no_more_begin_in_any_span_than_the_rate_allows(new_queue: NewQueue) -> None:
    queue = new_queue(routes={"metered": RouteOptions(rate="5/second")})
    queue.add_handler(handler := Destinations())
    fill(queue, "metered", 12)
    fill(queue, "other", 50)

    queue.run(until_idle=True)

    assert (12, 50) == (handler.count("metered"), handler.count("other"))
    times = [at for at, route in zip(handler.times, handler.tried, strict=True) if route == "metered"]
    assert all(later - earlier > 0.9 for earlier, later in zip(times, times[5:], strict=False))
    assert times[-1] - times[0] < 10


def test_a_destination_that_asks_for_time_gets_it_and_only_its_message_counts_an_attempt(new_queue: NewQueue) -> None:
    def busy(_message: Message) -> None:
        raise RouteError("slow down", after=3600)

    queue = new_queue(concurrency=1)
    queue.add_handler(handler := Destinations(then=lambda message: message.route == "busy" and busy(message)))
    fill(queue, "busy", 20)
    fill(queue, "well", 5)

    queue.run(until_idle=True)

    assert (1, 5) == (handler.count("busy"), handler.count("well"))
    (status,) = [status for status in queue.routes() if status.route == "busy"]
    assert status.resting_until is not None
    assert timedelta(seconds=3500) < status.resting_until - utc_now() < timedelta(seconds=3601)
    (tried,) = [record for record in queue.iter(State.DEFERRED) if record.attempts]
    assert (1, "RouteError: slow down") == (tried.attempts, tried.last_error)
    assert timedelta(seconds=3500) < tried.next_retry - utc_now() < timedelta(seconds=3601)


@pytest.mark.parametrize(
    "error", [PermanentError("no such user"), RetryableError("mailbox full", after=3600, concerns="message")]
)
def test_failures_that_are_the_messages_never_stop_a_destination(new_queue: NewQueue, error: Exception) -> None:
    def refuse(_message: Message) -> None:
        raise error

    queue = new_queue()
    queue.add_handler(handler := Destinations(then=refuse))
    fill(queue, "picky", 60)

    queue.run(until_idle=True)

    assert 60 == handler.count("picky")
    assert ["open"] == [status.state for status in queue.routes()]


def test_messages_without_a_route_go_on_failing_each_by_itself(new_queue: NewQueue) -> None:
    queue = new_queue()
    queue.add_handler(handler := Destinations(""))
    fill(queue, "", 60)

    queue.run(until_idle=True)

    assert 60 == handler.count("")
    assert 60 == queue.counters.snapshot()["deferred"]


def test_the_bounces_of_a_dead_destination_are_handled(open_queue: OpenQueue) -> None:
    queue = open_queue(routes={"dead": RESTING}, max_attempts=1)
    queue.add_handler(Destinations("dead"))
    queue.add_bounce_handler(bounced := Recorder())
    fill(queue, "dead", 200)

    queue.run(until_idle=True)

    assert 5 <= len(bounced.ids) <= 5 + 8
    assert len(bounced.ids) == queue.counters.snapshot()["bounces_handled"]


def test_a_stop_gives_back_what_waits_for_a_destination(new_queue: NewQueue) -> None:
    queue = new_queue(routes={"slow": RouteOptions(concurrency=1)}, on_success="archive")
    queue.add_handler(gate := Gate())
    fill(queue, "slow", 30)
    queue.start()
    gate.wait_for(1)
    wait_until(lambda: queue.count(State.ACTIVE) > 1)
    gate.opened.set()

    queue.stop()

    assert 0 == queue.count(State.ACTIVE)
    assert {0} == {record.deliveries for record in queue.iter(State.INCOMING)}
    assert 30 == queue.count(State.INCOMING) + queue.count(State.ARCHIVED)


@pytest.mark.parametrize("ageing", [0.1, 0.5, 0])
def test_an_endless_stream_of_urgent_messages_does_not_starve_the_others(open_queue: OpenQueue, ageing: float) -> None:
    """The stream begins anew with each that is handled: by priority alone, none of the others is ever next."""
    queue = open_queue(concurrency=1, batch_size=1, ageing=ageing)
    urgent = 0

    @queue.handler
    def handle(message: Message, _payload: BinaryIO) -> None:
        nonlocal urgent
        if message.priority == 1 and urgent < 400:
            urgent += 1
            queue.enqueue(b"", priority=1, route="a")
        elif message.priority == 9:
            reached.append(urgent)

    reached = list[int]()
    fill(queue, "a", 10, priority=9)
    fill(queue, "a", 3, priority=1)

    queue.run(until_idle=True)

    assert 10 == len(reached)
    if ageing:
        assert reached[0] <= 1 / ageing + 2
        assert reached[-1] <= 10 / ageing + 20
    else:
        assert [400] * 10 == reached


def test_what_is_known_of_destinations_can_be_asked_for_before_during_and_after_work(new_queue: NewQueue) -> None:
    queue = new_queue(routes={"a": RouteOptions(concurrency=1)})
    queue.add_handler(gate := Gate())
    assert [] == queue.routes()
    fill(queue, "a", 3)
    queue.start()
    gate.wait_for(1)
    wait_until(lambda: queue.routes()[0].waiting == 2)

    (status,) = queue.routes()
    assert ("a", "open", 1, 1, 2, None, "") == (
        status.route,
        status.state,
        status.window,
        status.running,
        status.waiting,
        status.resting_until,
        status.last_error,
    )
    gate.opened.set()
    wait_until(lambda: queue.counters.snapshot()["delivered"] == 3)
    queue.stop()
    assert ["a"] == [status.route for status in queue.routes()]
