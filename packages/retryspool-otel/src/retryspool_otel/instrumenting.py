"""The one function that users call."""

from __future__ import annotations

from importlib.metadata import version
from weakref import WeakSet

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import TracerProvider, get_tracer

from retryspool import Queue, QueueError, aio
from retryspool_otel.metrics import Timing, observe_backlog, observe_counters, observe_routes
from retryspool_otel.tracing import Tracing

__all__ = ["instrument"]

_SCOPE = "retryspool"
_instrumented: WeakSet[Queue] = WeakSet()


def instrument(
    queue: Queue | aio.Queue,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Let a queue tell OpenTelemetry of its messages, from now on.

    A message's trace context is stored with it, in its headers `traceparent` and `tracestate`. A message whose headers
    have one already keeps it.

    :param tracer_provider: where spans go; the global provider's if None
    :param meter_provider: where metrics go; the global provider's if None
    :raises QueueError: it does so already, or is one of `retryspool.aio` that isn't open yet
    """
    if isinstance(queue, aio.Queue):
        queue = queue.sync
    if queue in _instrumented:
        raise QueueError("the queue is instrumented already; all would be counted twice")
    _instrumented.add(queue)
    release = version("retryspool-otel")
    tracer = get_tracer(_SCOPE, release, tracer_provider)
    meter = get_meter(_SCOPE, release, meter_provider)
    queue.add_observer(Tracing(tracer))
    queue.add_observer(Timing(meter))  # within the other's spans, so that measurements can name them
    observe_counters(meter, queue)
    observe_routes(meter, queue)
    observe_backlog(meter, queue)
