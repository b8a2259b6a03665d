"""`FromEnvironment`: each in a process of its own, since the SDK's providers are set once a process."""

from __future__ import annotations

import os
import subprocess
import sys

BEGIN = """
import sys
from retryspool import Queue
from opentelemetry import metrics, trace
from retryspool_otel import FromEnvironment

def hand_one_on():
    with Queue.open(meta="memory:", data="memory:") as queue:
        queue.add_observer(FromEnvironment(last_export_s=45))
        queue.enqueue(b"")
"""
TO_CONSOLE = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "console"}


def run(program: str, **variables: str) -> str:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACE"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BEGIN + program],
        env={**surroundings, **variables},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert "" == done.stderr
    return done.stdout


def test_traces_and_metrics_go_where_the_environment_says() -> None:
    printed = run("hand_one_on()", **TO_CONSOLE)
    traces_alone = run("hand_one_on()", **TO_CONSOLE | {"OTEL_METRICS_EXPORTER": "none"})

    assert '"name": "send"' in printed
    assert '"name": "messaging.client.sent.messages"' in printed
    assert '"service.name": "retryspool"' in printed
    assert '"name": "send"' in traces_alone
    assert "messaging.client.sent.messages" not in traces_alone


def test_a_name_in_the_environment_goes_before_ours() -> None:
    printed = run(
        "hand_one_on()", **TO_CONSOLE, OTEL_RESOURCE_ATTRIBUTES="service.name=outbox,service.instance.id=worker-1"
    )

    assert '"service.name": "outbox"' in printed
    assert '"service.instance.id": "worker-1"' in printed


def test_an_sdk_that_the_process_has_is_used_and_left_as_it_is() -> None:
    program = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
hand_one_on()
with provider.get_tracer("mine").start_as_current_span("around"):
    hand_one_on()
provider.get_tracer("mine").start_span("after").end()
print([span.name for span in exporter.get_finished_spans()])
print(len({span.context.trace_id for span in exporter.get_finished_spans()}))
"""

    # TRACEPARENT is for what is outside of any span: the first alone.
    printed = run(program, TRACEPARENT="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

    assert ["['send', 'send', 'around', 'after']", "3"] == printed.splitlines()


def test_where_it_is_disabled_nothing_is_set_up() -> None:
    printed = run(
        "hand_one_on(); print(trace.get_tracer_provider().__class__.__name__, 'opentelemetry.sdk' in sys.modules)",
        OTEL_SDK_DISABLED="True",
    )

    assert "ProxyTracerProvider False" == printed.strip()


def test_without_the_sdk_it_says_what_to_install() -> None:
    program = """
sys.modules["opentelemetry.sdk.metrics"] = None  # as if it weren't installed
try:
    hand_one_on()
except Exception as error:
    print(type(error).__name__, error)
"""

    printed = run(program)

    assert "PluginLoadError OpenTelemetry's SDK isn't installed: pip install 'retryspool-otel[otlp]'" == printed.strip()


def test_an_exporter_that_cannot_be_made_is_told() -> None:
    program = """
try:
    hand_one_on()
except Exception as error:
    print(type(error).__name__, error)
"""

    printed = run(program, OTEL_TRACES_EXPORTER="console", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1000000")

    assert printed.startswith("PluginLoadError OpenTelemetry's exporter 'console' of traces can't be used: ")
    assert "max_export_batch_size" in printed
