"""A message that is enqueued in one process and handled in another has one trace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """
import json, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from retryspool import Queue, RetryableError
from retryspool_otel import instrument

exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
with Queue.open(sys.argv[2]) as queue:
    instrument(queue, provider)
    if sys.argv[1] == "enqueue":
        queue.enqueue(b"hello", route="example.com")
    else:
        def deliver(message, payload):
            if message.attempts == 0:
                raise RetryableError("slow down", after=0)
        queue.add_handler(deliver)
        queue.run(until_idle=True)
hexed = lambda context: [f"{context.trace_id:032x}", f"{context.span_id:016x}"]
print(json.dumps([
    {"name": span.name, "ids": hexed(span.context), "parent": span.parent and hexed(span.parent)}
    for span in exporter.get_finished_spans()
]))
"""


def spans_of(what: str, spool: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, what, str(spool)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=50).stdout)


def test_a_message_has_one_trace_from_one_process_to_the_other(tmp_path: Path) -> None:
    (sent,) = spans_of("enqueue", tmp_path / "spool")
    attempts = spans_of("handle", tmp_path / "spool")

    assert ["process example.com"] * 2 == [span["name"] for span in attempts]
    assert [sent["ids"]] * 2 == [span["parent"] for span in attempts]
    assert {sent["ids"][0]} == {span["ids"][0] for span in attempts}
    assert 3 == len({span["ids"][1] for span in (sent, *attempts)})
