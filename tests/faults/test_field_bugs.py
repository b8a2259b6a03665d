"""Bugs that recur in the queues of others, tried on this one's files and on Redis: workers, leases, clocks, restarts.

docs/bugs.md says which test is for which.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Unpack

import pytest
from backends import new_namespace
from field_works import opened, steal
from processes import Process, processes
from queues import Gate, Recorder, wait_until

from retryspool import BackendUnavailableError, DeadlineExceededError, MessageMetadata, Queue, State
from retryspool.conformance.another_clock import call_by_another_clock
from retryspool.deadline import deadline
from retryspool.meta import Store
from retryspool.model import utc_now
from retryspool.queue import QueueSettings
from retryspool_cli.servers import PostgresServer, RedisServer, Server

WORKS = "field_works"
HOUR = timedelta(hours=1)


@dataclass
class Place:
    """An empty spool that any number of processes may open."""

    meta: str
    data: str
    stack: ExitStack = field(default_factory=ExitStack)

    def open(self, **settings: Unpack[QueueSettings]) -> Queue:
        queue = opened(self.meta, self.data, settings)
        self.stack.callback(queue.close)
        return queue

    def begin(self, process: Process, function: str, *args: object) -> None:
        process.begin(f"{WORKS}:{function}", self.meta, self.data, *args)


@pytest.fixture(params=["fs", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    meta = f"fs:{tmp_path}/meta?sync=performance"
    if request.param == "redis":
        meta = f"{request.getfixturevalue('redis_url')}?namespace={new_namespace()}"
    place = Place(meta, f"fs:{tmp_path}/data?sync=performance")
    with place.stack:
        yield place


def send(process: Process, number: signal.Signals) -> None:
    os.kill(process._process.pid, number)


# -- a worker dies, and its message with it ----------------------------------------------------------------------------


def test_a_message_whose_worker_is_killed_is_delivered_by_another(place: Place) -> None:
    queue = place.open()
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"whole", message_id="a")
    with processes(1) as (victim,):
        place.begin(victim, "work", {}, 60)
        assert ["begun", "a"] == victim.line()
        victim.kill()

    queue.start()

    recorder.wait_for(1)
    assert [("a", b"whole")] == recorder.given
    assert 2 == recorder.messages[0].deliveries


def test_a_worker_killed_between_any_two_statements_of_a_claim_loses_nothing(place: Place) -> None:
    queue = place.open()
    for name in ("a", "b", "c"):
        queue.spool.meta.store_meta(name, MessageMetadata(name))
    with processes(1) as (claimer,):
        at, kills = 1, 0
        while not claimer.call(f"{WORKS}:claim_and_die", place.meta, at):
            at, kills = at + 1 + at // 3, kills + 1
            found = [record for state in (State.INCOMING, State.ACTIVE) for record in queue.iter(state)]
            assert ["a", "b", "c"] == sorted(record.id for record in found)
    assert kills > 5

    claimed = list[str]()
    wait_until(lambda: claimed.extend(_claim(queue)) or len(claimed) == 3)
    assert {"a", "b", "c"} == set(claimed)


def _claim(queue: Queue) -> list[str]:
    records = queue.spool.meta.claim([State.INCOMING], limit=9, lease=timedelta(minutes=1), owner="heir")
    return [record.id for record in records]


# -- stuck active ------------------------------------------------------------------------------------------------------


def test_what_a_dead_worker_had_comes_back_however_much_it_was(place: Place) -> None:
    queue = place.open(batch_size=100, concurrency=8)
    queue.add_handler(recorder := Recorder())
    dead = {"state": State.ACTIVE, "claimed_from": State.INCOMING, "lease_owner": "dead", "deliveries": 1}
    records = [MessageMetadata(f"m{number}", **dead, lease_expires=utc_now()) for number in range(700)]
    queue.spool.data.store_many([(record.id, b"") for record in records])
    queue.spool.meta.apply([Store(record) for record in records])

    queue.run(until_idle=True)

    assert Counter(record.id for record in records) == Counter(recorder.ids)
    assert 0 == sum(queue.counts().values())


def test_a_message_that_succeeded_stays_so_when_its_lease_would_have_ended(place: Place) -> None:
    queue = place.open(on_success="archive")
    queue.add_handler(recorder := Recorder())
    queue.enqueue(b"", message_id="a")
    queue.run(until_idle=True)
    archived = queue.get("a")

    until = time.monotonic() + 1.2  # the lease was of one second
    wait_until(lambda: queue.run(until_idle=True) or time.monotonic() > until)

    assert archived == queue.get("a")
    assert ["a"] == recorder.ids


# -- a lease that is too short, and a delay that is taken for one ------------------------------------------------------


def test_neither_a_long_handler_nor_a_long_delay_is_delivered_twice(place: Place) -> None:
    busy, hungry = place.open(concurrency=1), place.open()
    busy.add_handler(gate := Gate())
    busy.enqueue(b"", message_id="long")
    busy.start()
    gate.wait_for(1)
    first = busy.get("long")
    hungry.add_handler(recorder := Recorder())
    hungry.enqueue(b"", message_id="delayed", not_before=2.0)
    hungry.start()

    recorder.wait_for(1)  # after two leases
    wait_until(lambda: busy.get("long").lease_expires > first.lease_expires + timedelta(seconds=1))

    assert ["delayed"] == recorder.ids
    assert (first.lease_owner, 1) == (busy.get("long").lease_owner, busy.get("long").deliveries)
    gate.opened.set()
    wait_until(lambda: busy.counters.snapshot()["delivered"] == 1)


def test_the_result_of_a_worker_that_was_frozen_is_refused(place: Place) -> None:
    heir = place.open(on_success="archive")
    heir.add_handler(recorder := Recorder())
    heir.enqueue(b"", message_id="a")
    with processes(1) as (frozen,):
        place.begin(frozen, "work", {"on_success": "delete"}, 0.5)
        assert ["begun", "a"] == frozen.line()
        send(frozen, signal.SIGSTOP)
        heir.start()
        recorder.wait_for(1)
        wait_until(lambda: heir.get("a").state is State.ARCHIVED)
        heir.stop()
        send(frozen, signal.SIGCONT)
        send(frozen, signal.SIGTERM)
        counted = frozen.line()

    assert isinstance(counted, dict)
    assert (0, 1) == (counted["delivered"], counted["lost_leases"])
    assert (State.ARCHIVED, b"") == (heir.get("a").state, heir.open_payload("a").read())


# -- a lock that nobody holds any more ---------------------------------------------------------------------------------


def test_no_lock_outlives_the_process_that_holds_it(tmp_path: Path) -> None:
    place = Place(f"fs:{tmp_path}/meta?sync=performance", f"fs:{tmp_path}/data?sync=performance")
    with place.stack, processes(1) as (holder,):
        queue = place.open()
        queue.add_handler(recorder := Recorder())
        queue.enqueue(b"", message_id="a")
        holder.begin(f"{WORKS}:hold_all_locks", place.meta, str(tmp_path / "meta" / ".locks"))
        assert ["a"] == holder.line()
        with deadline(0.2), pytest.raises(DeadlineExceededError):
            queue.enqueue(b"", message_id="b")
        holder.kill()

        with deadline(20):
            queue.enqueue(b"", message_id="c")
        queue.start()

        recorder.wait_for(2)
        assert {"a", "c"} == set(recorder.ids)


# -- reconnecting ------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("kind", "times"), [("redis", 20), ("postgres", 5)])
def test_a_server_restarted_again_and_again_under_load_costs_no_message(
    kind: str, times: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(f"new_{kind}")()
    files = f"fs:{tmp_path}/spool?sync=performance"
    place = Place(server.url, files) if isinstance(server, RedisServer) else Place(files, server.url)
    assert isinstance(server, (RedisServer, PostgresServer))
    accepted = list[str]()
    enough = threading.Event()

    def enqueue(queue: Queue) -> None:
        while not enough.wait(0.01):
            name = f"m{len(accepted)}"
            while name not in accepted[-1:]:
                with suppress(BackendUnavailableError):
                    queue.enqueue(b"x", message_id=name, if_exists="skip")
                    accepted.append(name)

    with ThreadPoolExecutor(1) as pool, place.stack:
        queue = place.open(unhandled_delay_s=1)
        queue.add_handler(recorder := Recorder())
        queue.start()
        load = pool.submit(enqueue, place.open())
        place.stack.callback(enough.set)

        def wait_for_work(since: int) -> None:
            """Wait until what was accepted since then has been delivered."""
            wait_until(lambda: load.done() or set(accepted[since + 1 :]) & set(recorder.ids), f"message {since + 1}")
            assert not load.done(), load.exception()

        for number in range(times):
            wait_for_work(len(accepted))
            server.restart(kill=number % 2 == 0)
        wait_for_work(len(accepted))
        enough.set()
        load.result()
        wait_until(lambda: not any(queue.counts().values()))

    assert set(accepted) == set(recorder.ids)


def test_a_worker_that_is_told_of_nothing_delivers_all_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(_: object, timeout: float) -> bool:
        threading.Event().wait(timeout)
        return False

    queue = place.open()
    monkeypatch.setattr(type(queue.spool.meta), "wait_for_change", wait)
    queue.add_handler(recorder := Recorder())
    queue.start()
    wait_until(lambda: queue.running)
    other = place.open()
    for count in range(1, 4):
        other.enqueue(b"", message_id=f"m{count}")
        recorder.wait_for(count)

    assert ["m1", "m2", "m3"] == recorder.ids


# -- messages that wait in one worker while another is idle ------------------------------------------------------------


def test_what_one_worker_cannot_begin_another_gets(place: Place) -> None:
    slow, other = place.open(concurrency=2), place.open()
    slow.add_handler(gate := Gate())
    other.add_handler(recorder := Recorder())
    for number in range(20):
        slow.enqueue(b"", message_id=f"m{number}")
    slow.start()
    gate.wait_for(2)

    other.run(until_idle=True)

    assert 18 == len(recorder.ids)
    assert 2 == other.count(State.ACTIVE)
    gate.opened.set()


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_a_worker_whose_clock_is_off_steals_nothing_and_puts_off_by_the_stores_clock(
    ahead: timedelta, redis_url: str, tmp_path: Path
) -> None:
    place = Place(f"{redis_url}?namespace={new_namespace()}", f"fs:{tmp_path}/data?sync=performance")
    with place.stack:
        queue = place.open(lease_s=60, concurrency=1)
        queue.add_handler(gate := Gate())
        queue.enqueue(b"", message_id="held")
        queue.start()
        gate.wait_for(1)
        queue.enqueue(b"", message_id="later", not_before=HOUR / 2)
        queue.enqueue(b"", message_id="fails")
        before = utc_now()

        taken = call_by_another_clock(ahead, steal, place.meta, place.data)

        failed = queue.get("fails")
        assert ["fails"] == taken
        assert (State.DEFERRED, 1) == (failed.state, failed.attempts)
        assert before + HOUR / 6 <= failed.next_retry <= utc_now() + HOUR / 3  # 15 minutes, more or less
        gate.opened.set()


# -- messages that kill ------------------------------------------------------------------------------------------------


def _work_until_all_is_settled(place: Place, function: str, *args: object) -> tuple[int, list[str]]:
    """Let one worker follow the other as each dies; return how many died, and what was delivered."""
    queue = place.open()
    delivered = list[str]()
    deaths = 0
    while any(queue.count(state) for state in (State.INCOMING, State.ACTIVE, State.DEFERRED)):
        assert deaths < 50, f"{queue.counts()}, delivered: {delivered}"
        with processes(1) as (worker,):
            place.begin(worker, function, *args)
            try:
                while ["idle"] != (said := worker.line()):
                    delivered.append(str(said))
            except AssertionError:  # it died
                deaths += 1
        wait_until(lambda: not queue.count(State.ACTIVE) or _is_due(queue))
    return deaths, delivered


def _is_due(queue: Queue) -> bool:
    due = queue.oldest_due(State.ACTIVE)
    return due is not None and due <= utc_now()


def test_a_message_that_kills_its_worker_ends_in_bounce_and_takes_none_of_those_behind_it_along(place: Place) -> None:
    queue = place.open()
    innocent = [f"innocent{number}" for number in range(6)]
    for name in ("poison", *innocent):
        queue.enqueue(b"", message_id=name, priority=int(name != "poison"))

    settings = {"concurrency": 1, "max_lost_deliveries": 2}
    deaths, delivered = _work_until_all_is_settled(place, "die_of", "poison", settings)

    after = queue.get("poison")
    assert (State.BOUNCE, 2) == (after.state, deaths)
    assert after.last_error.startswith("2 deliveries were lost")
    assert set(innocent) == set(delivered)
    assert 1 == sum(queue.counts().values())


@pytest.mark.parametrize("kind", ["threads", "coroutines"])
@pytest.mark.parametrize("concurrency", [4, 8])
def test_a_message_that_kills_its_worker_bounces_and_none_of_those_beside_it_does(
    place: Place, kind: str, concurrency: int
) -> None:
    queue = place.open()
    innocent = [f"innocent{number}" for number in range(12)]
    for name in ("poison", *innocent):
        queue.enqueue(b"", message_id=name, priority=int(name != "poison"))
    settings = {"concurrency": concurrency, "max_lost_deliveries": 3}

    deaths, delivered = _work_until_all_is_settled(place, "die_in_company", kind, ["poison"], settings)

    after = queue.get("poison")
    assert after.state is State.BOUNCE
    assert re.match(r"\d deliveries were lost: each time its worker died", after.last_error)
    assert deaths <= 3
    assert set(innocent) == set(delivered)
    assert 1 == sum(queue.counts().values())


def test_each_of_several_messages_that_kill_bounces_by_its_own_fault(place: Place) -> None:
    queue = place.open()
    poison = ["poison0", "poison1", "poison2"]
    innocent = [f"innocent{number}" for number in range(9)]
    for name in (*poison, *innocent):
        queue.enqueue(b"", message_id=name, priority=int(name not in poison))

    deaths, delivered = _work_until_all_is_settled(
        place, "die_in_company", "threads", poison, {"concurrency": 6, "max_lost_deliveries": 2}
    )

    assert set(poison) == {record.id for record in queue.iter(State.BOUNCE)}
    assert set(innocent) == set(delivered)
    assert 3 == sum(queue.counts().values())
    assert deaths <= 2 * 3


# -- shutting down -----------------------------------------------------------------------------------------------------


def test_a_worker_told_to_end_finishes_what_runs_and_gives_back_the_rest_uncounted(place: Place) -> None:
    queue = place.open()
    for number in range(300):
        queue.enqueue(b"", message_id=f"m{number}")
    begun = list[Any]()
    with processes(1) as (worker,):
        place.begin(worker, "work", {"concurrency": 3, "on_success": "archive"}, 0.005)
        while len(begun) < 30:
            begun.append(worker.line())
        send(worker, signal.SIGTERM)
        while isinstance(said := worker.line(), list):
            begun.append(said)

    assert isinstance(said, dict)
    left = list(queue.iter(State.INCOMING))
    assert 0 == queue.count(State.ACTIVE)
    assert len(begun) == said["delivered"] == queue.count(State.ARCHIVED) == 300 - len(left)
    assert {(0, 0)} == {(record.deliveries, record.attempts) for record in left}
