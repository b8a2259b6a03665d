"""A queue's figures, as Prometheus reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from retryspool import Queue
from retryspool.queue import CounterName
from retryspool_cli.watch.distribution import Distribution
from retryspool_cli.watch.stores import Stores, trouble
from retryspool_cli.watch.timing import Timing

__all__ = ["COUNTERS", "QueueCollector", "new_registry"]

COUNTERS: Mapping[CounterName, str] = {
    "accepted": "Messages that were enqueued",
    "claimed": "Deliveries begun",
    "delivered": "Messages handled with success",
    "deferred": "Failures that are tried again",
    "bounced": "Messages that failed for good",
    "bounces_handled": "Bounces that a bounce handler has dealt with",
    "archived": "Messages that were kept in the archive",
    "set_aside": "Messages returned for a while: no handler takes them, or they can't be read now",
    "put_off": "Messages returned until their destination's rest is over",
    "released": "Messages given back unhandled",
    "lost_leases": "Results discarded, because the message was another worker's by then",
    "pruned": "Kept messages deleted by age",
    "handler_seconds": "Time spent in handlers",
}
"""What each counter of a queue counts."""


def new_registry(queue: Queue, stores: Stores, timing: Timing) -> CollectorRegistry:
    """Return a registry of a queue's figures, and of its process's: memory, processor time, open files."""
    registry = CollectorRegistry()
    registry.register(QueueCollector(queue, stores, timing))
    ProcessCollector(registry=registry)
    return registry


class QueueCollector(Collector):
    """Reads a queue's figures, never waiting for a store for long.

    :param timing: an observer of the queue
    """

    def __init__(self, queue: Queue, stores: Stores, timing: Timing) -> None:
        self._queue = queue
        self._stores = stores
        self._timing = timing

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that being registered reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all of them."""
        yield _gauge(
            "build_info", "The version of retryspool-core, as a label", {version("retryspool-core"): 1}, "version"
        )
        for counter, value in self._queue.counters.snapshot().items():
            yield CounterMetricFamily(f"retryspool_{counter}", COUNTERS[counter], value)
        yield from self._distributions()
        yield from self._worker()
        yield from self._backlog()

    def _distributions(self) -> Iterator[Metric]:
        timing = self._timing
        yield _histogram(
            "handler_duration_seconds",
            "How long handlers took, by whether they returned or raised",
            {"returned": timing.returned, "raised": timing.raised},
            "result",
        )
        yield _histogram(
            "start_delay_seconds", "From when a message was due to when its handler began", {"": timing.delay}
        )
        yield _histogram(
            "attempts",
            "Attempts that messages took until they were delivered, or bounced",
            {"delivered": timing.delivered, "bounced": timing.bounced},
            "outcome",
        )

    def _worker(self) -> Iterator[Metric]:
        yield _gauge("worker_running", "1 while the worker takes messages", {"": float(self._queue.running)})
        yield _gauge(
            "claim_stalled_seconds",
            "For how long the worker has tried to claim in vain; 0 if it can, or needn't",
            {"": self._queue.stalled_s},
        )
        states = Counter[str](status.state for status in self._queue.routes())
        yield _gauge(
            "routes",
            "Destinations that the worker knows, by how it treats them",
            {state: states[state] for state in ("open", "resting", "probing")},
            "state",
        )

    def _backlog(self) -> Iterator[Metric]:
        records = self._stores.records.get()
        yield _gauge(
            "store_up",
            "1 while the store answers",
            {
                "records": float(not trouble(records)),
                "payloads": float(not trouble(self._stores.payloads.get())),
            },
            "store",
        )
        if records.value is None or records.age_s is None:
            return
        yield _gauge(
            "backlog_age_seconds",
            "How old the figures of the backlog and of pauses are: they grow old while the store doesn't answer",
            {"": records.age_s},
        )
        backlog, paused = records.value.backlog, records.value.paused
        by_state = {state.label: float(count) for state, count in backlog.counts.items()}
        yield _gauge("messages", "Messages in the spool", by_state, "state")
        overdue = {state.label: age for state, age in backlog.overdue_s.items()}
        if overdue:
            what = "For how long the oldest message has been due; 0 if none is"
            yield _gauge("oldest_due_age_seconds", what, overdue, "state")
        if paused is not None:
            yield _gauge("paused", "1 while the whole spool is paused", {"": float(paused.spool is not None)})
            yield _gauge("paused_routes", "Routes that are paused by themselves", {"": len(paused.routes)})


def _gauge(name: str, what: str, values: Mapping[str, float], label: str = "") -> Metric:
    family = GaugeMetricFamily(f"retryspool_{name}", what, labels=[label] if label else [])
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def _histogram(name: str, what: str, distributions: Mapping[str, Distribution], label: str = "") -> Metric:
    family = HistogramMetricFamily(f"retryspool_{name}", what, labels=[label] if label else [])
    for key, distribution in distributions.items():
        buckets, total = distribution.read()
        family.add_metric([key] if label else [], buckets, total)
    return family
