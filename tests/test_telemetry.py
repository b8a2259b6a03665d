"""`--observer otel`: what a collector gets of processes that enqueue and work, and what they do without one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from collector import Collector, attributes

from retryspool import Queue

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WORK = ("work", "--exec", "cat > /dev/null", "--observer")
PATIENT = """
from functools import partial
from retryspool_otel import FromEnvironment
otel = partial(FromEnvironment, last_export_s=45)  # where this machine is slow, nothing is lost at the end
"""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command on one spool, with no variables but a test's own."""
    (tmp_path / "patient.py").write_text(PATIENT)
    started: list[subprocess.Popen[bytes]] = []
    surroundings = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "RETRYSPOOL_", "TRACE")) and not name.lower().endswith("_proxy")
    }

    def call(*arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "retryspool_cli", "--spool", str(tmp_path / "spool"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**surroundings, **variables},
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, error = process.communicate(b"hello", timeout=50)
    return process.returncode, error.decode()


def test_a_collector_gets_a_messages_trace_from_who_called_enqueue_to_its_delivery(start: Start) -> None:
    with Collector() as collector:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "outbox"}
        enqueued = finish(
            start(
                *("enqueue", "--route", "example.com", "--observer", "patient:otel"),
                **{"TRACEPARENT": f"00-{TRACE}-{PARENT}-01", **told},
            )
        )
        worked = finish(start(*WORK, "patient:otel", "--drain", **told))

    send, process = collector.spans
    assert (0, "") == enqueued
    assert 0 == worked[0]
    assert ["send example.com", "process example.com"] == [send.name, process.name]
    assert [bytes.fromhex(TRACE)] * 2 == [send.trace_id, process.trace_id]
    assert [bytes.fromhex(PARENT), send.span_id] == [send.parent_span_id, process.parent_span_id]
    assert "delivered" == attributes(process.attributes)["retryspool.message.outcome"]
    assert 1 == collector.counter("retryspool.delivered")
    assert {"outbox"} == {resource["service.name"] for resource in collector.resources}
    assert 2 == len({resource["service.instance.id"] for resource in collector.resources})


def test_what_a_worker_holds_back_goes_out_when_it_is_stopped(start: Start, tmp_path: Path) -> None:
    never = str(3_600_000)
    with Collector() as collector, Queue.open(tmp_path / "spool") as queue:
        held_back = {"OTEL_BSP_SCHEDULE_DELAY": never, "OTEL_METRIC_EXPORT_INTERVAL": never}
        worker = start(*WORK, "patient:otel", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **held_back)
        queue.enqueue(b"")
        while sum(queue.counts().values()):
            threading.Event().wait(0.05)
        before = len(collector.traces) + len(collector.metrics)
        worker.send_signal(signal.SIGTERM)
        code, _ = finish(worker)

    assert (0, 0) == (before, code)
    assert ["process"] == [span.name for span in collector.spans]
    assert 1 == collector.counter("retryspool.delivered")
    assert {"retryspool"} == {resource["service.name"] for resource in collector.resources}


def test_a_worker_works_and_ends_though_nothing_listens(start: Start, tmp_path: Path) -> None:
    with Queue.open(tmp_path / "spool") as queue, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and doesn't listen, so that the port stays refused
        for _ in range(3):
            queue.enqueue(b"")
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        code, error = finish(start(*WORK, "otel", "--drain", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint))

    assert 0 == code
    assert "3 delivered, 0 deferred, 0 bounced" in error


def test_a_worker_waits_for_a_collector_that_hangs_for_a_few_seconds_alone(start: Start, tmp_path: Path) -> None:
    with Queue.open(tmp_path / "spool") as queue, socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(10)  # and never accepts
        for _ in range(3):
            queue.enqueue(b"")
        endpoint = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        code, error = finish(
            start(*WORK, "otel", "--drain", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="3600")
        )

    assert 0 == code
    assert "3 delivered, 0 deferred, 0 bounced" in error
    assert "no collector took them within 5 s" in error


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "To add it: pip install opentelemetry-exporter-zipkin"),
        ({"OTEL_METRICS_EXPORTER": "nowhere"}, "OTEL_METRICS_EXPORTER is 'nowhere'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, "it must be one of http/protobuf, grpc"),
    ],
)
def test_what_is_missing_shows_before_anything_is_done(
    variables: dict[str, str], message: str, start: Start, tmp_path: Path
) -> None:
    for command in (("enqueue", "--observer", "otel"), (*WORK, "otel")):
        code, error = finish(start(*command, **variables))

        assert 2 == code
        assert error.startswith("Error: observer 'otel': ")
        assert message in error
    assert not (tmp_path / "spool").exists()
