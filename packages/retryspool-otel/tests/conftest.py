from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from retryspool import Queue, Spool
from retryspool.memory import MemoryData, MemoryMeta
from retryspool_otel import instrument

Key = tuple[str, tuple[tuple[str, object], ...]]


@dataclass
class Telemetry:
    """What the SDK has been told, kept in memory."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meter_provider = MeterProvider([self.reader])

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def span(self, operation: str) -> ReadableSpan:
        (span,) = self.named(operation)
        return span

    def named(self, operation: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.split()[0] == operation]

    def points(self) -> Mapping[Key, NumberDataPoint | HistogramDataPoint]:
        """Collect all metrics, by name and attributes."""
        data = self.reader.get_metrics_data()
        return {
            (metric.name, tuple(sorted((point.attributes or {}).items()))): point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
            if isinstance(point, (NumberDataPoint, HistogramDataPoint))
        }

    def numbers(self) -> dict[Key, float]:
        return {key: point.value for key, point in self.points().items() if isinstance(point, NumberDataPoint)}

    def histogram(self, name: str, **attributes: object) -> HistogramDataPoint:
        (point,) = (
            point
            for (found, having), point in self.points().items()
            if found == name and attributes.items() <= dict(having).items()
        )
        assert isinstance(point, HistogramDataPoint)
        return point


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracer_provider.shutdown()
    telemetry.meter_provider.shutdown()


@pytest.fixture
def queue(telemetry: Telemetry) -> Iterator[Queue]:
    with Queue(Spool(MemoryMeta(), MemoryData())) as queue:
        instrument(queue, telemetry.tracer_provider, telemetry.meter_provider)
        yield queue
