"""A collector for OpenTelemetry: takes traces and metrics by OTLP over HTTP, as protobuf."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from serving import Serving

__all__ = ["Collector", "attributes"]


class Collector(Serving):
    """Listens in a `with` block, and keeps what it's sent."""

    def __init__(self) -> None:
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Intake,), {"collector": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.traces
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resources(self) -> list[dict[str, str]]:
        """The attributes of each sender, once for each request."""
        of_traces = [resource.resource for request in self.traces for resource in request.resource_spans]
        of_metrics = [resource.resource for request in self.metrics for resource in request.resource_metrics]
        return [attributes(resource.attributes) for resource in (*of_traces, *of_metrics)]

    def counter(self, name: str) -> int:
        """Return the latest value of a counter that has no attributes."""
        (*_, value) = (
            point.as_int
            for request in self.metrics
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.sum.data_points
            if metric.name == name
        )
        return value


def attributes(pairs: Iterable[KeyValue]) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in pairs}


class _Intake(BaseHTTPRequestHandler):
    collector: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self.collector.traces.append(ExportTraceServiceRequest.FromString(body))
        elif self.path == "/v1/metrics":
            self.collector.metrics.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200 if self.path in {"/v1/traces", "/v1/metrics"} else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        pass
