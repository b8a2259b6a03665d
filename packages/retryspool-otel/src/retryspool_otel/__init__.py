"""OpenTelemetry traces and metrics of RetrySpool's queues."""

from retryspool_otel.instrumenting import instrument

__all__ = ["instrument"]
