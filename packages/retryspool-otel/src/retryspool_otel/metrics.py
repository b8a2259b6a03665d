"""Metrics: a queue's counters, how long what takes, and what waits in the store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.util.types import AttributeValue

from retryspool import BackendClosedError, Message, Observer, Queue
from retryspool.queue import CounterName, Settled, Submission
from retryspool.queue.backlog import Backlog, read_backlog, waited_s
from retryspool.queue.latest import Latest, Reading
from retryspool_otel import names

__all__ = ["Timing", "observe_backlog", "observe_counters", "observe_routes"]

_DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300)
_DELAYS_S = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_ATTEMPTS = (1, 2, 3, 5, 8, 10, 15, 20, 50)

_SENDING: dict[str, AttributeValue] = {names.SYSTEM: names.SYSTEM_NAME, names.OPERATION: "send"}
_CLAIMING: dict[str, AttributeValue] = {names.SYSTEM: names.SYSTEM_NAME, names.OPERATION: "claim"}
_PROCESSING: dict[str, AttributeValue] = {names.SYSTEM: names.SYSTEM_NAME, names.OPERATION: "process"}

_BY_CONVENTION: dict[CounterName, dict[str, AttributeValue]] = {"accepted": _SENDING, "claimed": _CLAIMING}


class Timing(Observer):
    """Measures how long enqueuing, waiting and handling take, and how many attempts."""

    def __init__(self, meter: Meter) -> None:
        self._sending = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Time that storing messages took, one or several at once",
            explicit_bucket_boundaries_advisory=_DURATIONS_S,
        )
        self._processing = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Time that a handler took",
            explicit_bucket_boundaries_advisory=_DURATIONS_S,
        )
        self._delay = meter.create_histogram(
            "retryspool.start.delay",
            "s",
            "Time from when a message was due to when its handler began",
            explicit_bucket_boundaries_advisory=_DELAYS_S,
        )
        self._attempts = meter.create_histogram(
            "retryspool.attempts",
            "{attempt}",
            "Attempts that a message took until it was delivered, or bounced",
            explicit_bucket_boundaries_advisory=_ATTEMPTS,
        )

    @contextmanager
    def accepting(self, messages: Sequence[Submission]) -> Generator[None]:
        began = time.perf_counter()
        attributes = _SENDING
        try:
            yield
        except BaseException as error:
            attributes = _with_error(_SENDING, error)
            raise
        else:
            refused = next((message.error for message in messages if message.error is not None), None)
            if refused is not None:
                attributes = _with_error(_SENDING, refused)
        finally:
            self._sending.record(time.perf_counter() - began, attributes)

    @contextmanager
    def attempt(self, message: Message) -> Generator[None]:
        waited = waited_s(message.record)
        if waited is not None:
            self._delay.record(waited)
        began = time.perf_counter()
        attributes = _PROCESSING
        try:
            yield
        except BaseException as error:
            attributes = _with_error(_PROCESSING, error)
            raise
        finally:
            self._processing.record(time.perf_counter() - began, attributes)

    def settled(self, settled: Settled) -> None:
        if settled.outcome == "delivered":
            self._attempts.record(settled.record.attempts + 1, {names.OUTCOME: settled.outcome})
        elif settled.outcome == "bounced" and settled.became is not None:
            self._attempts.record(settled.became.attempts, {names.OUTCOME: settled.outcome})


def _with_error(attributes: dict[str, AttributeValue], error: BaseException) -> dict[str, AttributeValue]:
    return {**attributes, names.ERROR_TYPE: names.type_of(error)}


def observe_counters(meter: Meter, queue: Queue) -> None:
    """Let the queue's counters be read whenever metrics are collected."""
    for counter, (name, unit, description) in names.COUNTERS.items():
        meter.create_observable_counter(name, [_reader(queue, counter)], unit, description)


def _reader(queue: Queue, counter: CounterName) -> Callable[[CallbackOptions], Iterable[Observation]]:
    attributes = _BY_CONVENTION.get(counter)
    return lambda _: [Observation(queue.counters.snapshot()[counter], attributes)]


def observe_routes(meter: Meter, queue: Queue) -> None:
    """Let it be read in which state the worker sees destinations."""

    def states(_: CallbackOptions) -> Iterable[Observation]:
        counts = Counter(status.state for status in queue.routes())
        return [Observation(counts[state], {names.ROUTE_STATE: state}) for state in ("open", "resting", "probing")]

    meter.create_observable_gauge("retryspool.routes", [states], "{route}", "Destinations that the worker knows")


def observe_backlog(meter: Meter, queue: Queue) -> None:
    """Let what waits in the store be read: looked up every five seconds at the most, and never waited for for long."""
    latest = Latest(lambda: read_backlog(queue.spool.meta))

    def gauge(
        name: str, unit: str, description: str, values: Callable[[Backlog, Reading[Backlog]], Iterable[Observation]]
    ) -> None:
        def read(_: CallbackOptions) -> Iterable[Observation]:
            reading = latest.get()
            if reading.value is None or isinstance(reading.error, BackendClosedError):
                return ()
            return values(reading.value, reading)

        meter.create_observable_gauge(name, [read], unit, description)

    gauge(
        "retryspool.backlog.messages",
        "{message}",
        "Messages in each state",
        lambda backlog, _: [Observation(count, {names.STATE: state.label}) for state, count in backlog.counts.items()],
    )
    gauge(
        "retryspool.backlog.oldest_due",
        "s",
        "For how long the oldest message of a state has been due",
        lambda backlog, _: [Observation(age, {names.STATE: state.label}) for state, age in backlog.overdue_s.items()],
    )
    gauge(
        "retryspool.backlog.age",
        "s",
        "How old the figures of the backlog are: they grow old while the store doesn't answer",
        lambda _, reading: [Observation(reading.age_s or 0.0)],
    )
