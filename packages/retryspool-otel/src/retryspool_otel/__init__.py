"""OpenTelemetry traces and metrics of RetrySpool's queues."""

from retryspool_otel.environment import FromEnvironment
from retryspool_otel.instrumenting import instrument

__all__ = ["FromEnvironment", "instrument"]
