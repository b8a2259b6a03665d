from __future__ import annotations

import threading
from pathlib import Path
from typing import BinaryIO

import pytest
from queues import wait_until

from retryspool import (
    BackendUnavailableError,
    Message,
    MessageExistsError,
    PermanentError,
    Queue,
    RetryableError,
    State,
)
from retryspool.queue import Counters
from retryspool_otel import instrument, names

from .conftest import Key, Telemetry

README = (Path(__file__).parents[1] / "README.md").read_text()


def key(name: str, **attributes: object) -> Key:
    return name, tuple(sorted((f"retryspool.{each.replace('_', '.')}", value) for each, value in attributes.items()))


def handle_some(queue: Queue) -> None:
    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        if message.route == "never":
            raise PermanentError("no")
        if message.route == "later" and message.attempts < 2:
            raise RetryableError("not yet", after=0)

    for route in ("now", "later", "never"):
        queue.enqueue(b"", route=route)
    queue.run(until_idle=True)


def test_every_counter_of_the_queue_is_a_counter(queue: Queue, telemetry: Telemetry) -> None:
    handle_some(queue)
    expected = queue.counters.snapshot()

    totals = {name: value for (name, _), value in telemetry.numbers().items()}

    assert set(names.COUNTERS) == set(Counters().snapshot())
    assert expected == {counter: totals[name] for counter, (name, _, _) in names.COUNTERS.items()}
    assert (3, 2, 2, 1) == tuple(expected[name] for name in ("accepted", "delivered", "deferred", "bounced"))


def test_durations_are_histograms_with_their_errors(queue: Queue, telemetry: Telemetry) -> None:
    handle_some(queue)
    with pytest.raises(MessageExistsError):
        queue.enqueue(b"", message_id=queue.list(State.BOUNCE).message_ids[0])

    found = telemetry.points()
    process = {
        dict(attributes).get("error.type", ""): getattr(point, "count", 0)
        for (name, attributes), point in found.items()
        if name == "messaging.process.duration"
    }
    send = {
        dict(attributes).get("error.type", ""): getattr(point, "count", 0)
        for (name, attributes), point in found.items()
        if name == "messaging.client.operation.duration"
    }
    assert {"": 2, "retryspool.errors.RetryableError": 2, "retryspool.errors.PermanentError": 1} == process
    assert {"": 3, "retryspool.errors.MessageExistsError": 1} == send


def test_attempts_are_counted_when_a_message_is_done(queue: Queue, telemetry: Telemetry) -> None:
    handle_some(queue)

    delivered = telemetry.histogram("retryspool.attempts", **{"retryspool.message.outcome": "delivered"})
    bounced = telemetry.histogram("retryspool.attempts", **{"retryspool.message.outcome": "bounced"})
    assert (2, 4) == (delivered.count, delivered.sum)
    assert (1, 1) == (bounced.count, bounced.sum)


def test_the_delay_from_due_to_start_is_measured(queue: Queue, telemetry: Telemetry) -> None:
    queue.enqueue(b"")
    threading.Event().wait(0.3)  # for it to have waited
    queue.add_handler(lambda _message, _payload: None)
    queue.enqueue(b"", not_before=0)
    queue.run(until_idle=True)

    delay = telemetry.histogram("retryspool.start.delay")
    assert 2 == delay.count
    assert 0.3 < delay.max < 60
    assert delay.min < delay.max


def test_what_waits_in_the_store_is_counted_by_state(queue: Queue, telemetry: Telemetry) -> None:
    queue.hold(queue.enqueue(b"").id)
    queue.enqueue(b"", not_before=3600)
    queue.enqueue(b"", not_before=3600)

    numbers = telemetry.numbers()

    assert 2 == numbers[key("retryspool.backlog.messages", message_state="incoming")]
    assert 1 == numbers[key("retryspool.backlog.messages", message_state="hold")]
    assert 0 == numbers[key("retryspool.backlog.oldest_due", message_state="incoming")]
    assert 0 <= numbers[key("retryspool.backlog.age")] < 60


def test_many_readers_cost_the_store_one_look(
    queue: Queue, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[State] = []
    count = queue.spool.meta.get_state_count  # type: ignore[attr-defined]

    def counted(state: State) -> int:
        looks.append(state)
        return count(state)

    monkeypatch.setattr(queue.spool.meta, "get_state_count", counted)
    for _ in range(20):
        telemetry.numbers()

    assert len(State) == len(looks)


def test_a_store_that_hangs_is_told_by_the_age_of_the_figures(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Queue.open(meta="memory:hanging", data="memory:hanging") as queue:
        instrument(queue, telemetry.tracer_provider, telemetry.meter_provider)
        queue.enqueue(b"")
        assert 1 == telemetry.numbers()[key("retryspool.backlog.messages", message_state="incoming")]
        first = telemetry.numbers()[key("retryspool.backlog.age")]
        go = threading.Event()

        def hang(_: State) -> int:
            go.wait(30)
            raise BackendUnavailableError("gone", outcome="none")

        monkeypatch.setattr(queue.spool.meta, "get_state_count", hang)
        wait_until(lambda: telemetry.numbers()[key("retryspool.backlog.age")] > first + 5)  # the next look has begun
        numbers = telemetry.numbers()
        go.set()

    assert 1 == numbers[key("retryspool.backlog.messages", message_state="incoming")]
    assert numbers[key("retryspool.backlog.age")] > first + 5


def test_of_a_closed_queue_no_backlog_is_told(telemetry: Telemetry) -> None:
    with Queue.open(meta="memory:closed", data="memory:closed") as queue:
        instrument(queue, telemetry.tracer_provider, telemetry.meter_provider)
    telemetry.numbers()

    assert [] == [name for name, _ in telemetry.numbers() if name.startswith("retryspool.backlog")]


def test_destinations_are_counted_by_state(queue: Queue, telemetry: Telemetry) -> None:
    handle_some(queue)

    states = {
        dict(at)["retryspool.route.state"]: n for (name, at), n in telemetry.numbers().items() if "routes" in name
    }
    assert {"open", "resting", "probing"} == set(states)
    assert len(queue.routes()) == sum(states.values())


def test_the_readme_names_every_metric_and_every_attribute(queue: Queue, telemetry: Telemetry) -> None:
    handle_some(queue)
    queue.add_bounce_handler(lambda _message, _payload: None)
    metrics = {name for name, _ in telemetry.points()}
    attributes = {attribute for span in telemetry.spans for attribute in span.attributes or {}}
    attributes |= {attribute for _, having in telemetry.points() for attribute, _ in having}

    assert len(metrics) >= 20
    assert set() == {name for name in metrics | attributes if f"`{name}`" not in README}
