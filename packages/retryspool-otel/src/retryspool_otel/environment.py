"""An observer that needs nothing but the environment: what `retryspool work --observer otel` adds."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from logging import getLogger

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import ProxyTracerProvider, get_current_span, get_tracer_provider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from retryspool import Observer, Queue
from retryspool.queue import Submission
from retryspool_otel.instrumenting import instrument
from retryspool_otel.sdk import set_up

__all__ = ["FromEnvironment"]

_log = getLogger(__name__)


class FromEnvironment(Observer):
    """Lets a queue tell OpenTelemetry of its messages, by an SDK that environment variables configure.

    They are OpenTelemetry's own, such as `OTEL_SERVICE_NAME` and `OTEL_EXPORTER_OTLP_ENDPOINT`; without any, traces and
    metrics go to a collector on this machine, by OTLP over HTTP. Where the process has an SDK already, as under
    `opentelemetry-instrument`, that is used, and left as it is. What is enqueued outside of any span belongs to the
    trace that the variable `TRACEPARENT` names.

    Collectors are never waited for, but when the queue closes: to take what is held back.

    :param last_export_s: for how long then, at the most
    :raises PluginLoadError: the SDK or an exporter isn't installed; the message says what to install
    :raises InvalidOptionError: a variable asks for what there isn't
    """

    def __init__(self, *, last_export_s: float = 5.0) -> None:
        self._last_export_s = last_export_s
        is_set_up = not isinstance(get_tracer_provider(), ProxyTracerProvider)
        self._ends: list[Callable[[], object]] = [] if is_set_up else set_up()
        carrier = {name: os.environ.get(name.upper(), "") for name in ("traceparent", "tracestate")}
        self._parent = TraceContextTextMapPropagator().extract(carrier, Context())

    def added(self, queue: Queue) -> None:
        instrument(queue)

    @contextmanager
    def accepting(self, messages: Sequence[Submission]) -> Generator[None]:
        del messages
        if get_current_span().get_span_context().is_valid:
            yield
            return
        token = attach(self._parent)
        try:
            yield
        finally:
            detach(token)

    def closing(self) -> None:
        # In threads that needn't end: the SDK waits for a collector for half a minute, and this process shall not.
        threads = [threading.Thread(target=end, name="retryspool-otel-end", daemon=True) for end in self._ends]
        for thread in threads:
            thread.start()
        until = time.monotonic() + self._last_export_s
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            _log.warning("the last traces or metrics are lost: no collector took them within %g s", self._last_export_s)
