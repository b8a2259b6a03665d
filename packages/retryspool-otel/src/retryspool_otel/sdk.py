"""The SDK, set up as OpenTelemetry's environment variables describe it.

`opentelemetry-sdk` reads most of them itself: resource, sampler, batches, intervals, whether it's disabled; and an
exporter its endpoint, headers, certificates, time-out. What is read here is which exporters there are to be, of those
that are installed under OpenTelemetry's own entry points.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from uuid import uuid4

from opentelemetry.metrics import set_meter_provider
from opentelemetry.trace import set_tracer_provider

from retryspool import InvalidOptionError, PluginLoadError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

__all__ = ["set_up"]

Made = TypeVar("Made")

_INSTALL: Final = "pip install 'retryspool-otel[otlp]'"
_PROTOCOLS: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_PACKAGES: Final = {
    "otlp_proto_http": _INSTALL,
    "otlp_proto_grpc": "pip install opentelemetry-exporter-otlp-proto-grpc",
    "prometheus": "pip install opentelemetry-exporter-prometheus",
    "zipkin": "pip install opentelemetry-exporter-zipkin",
}


def set_up() -> list[Callable[[], object]]:
    """Set up the process's SDK for traces and metrics; returns what ends it, each exporting what is held back.

    :raises PluginLoadError: the SDK or an exporter isn't installed
    :raises InvalidOptionError: a variable asks for what there isn't
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    try:
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 -- it needn't be installed
        from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415 -- see above
            MetricReader,
            PeriodicExportingMetricReader,
        )
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- see above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 -- see above
    except ModuleNotFoundError as missing:
        raise PluginLoadError(f"OpenTelemetry's SDK isn't installed: {_INSTALL}") from missing

    def reader(exporter: Any) -> MetricReader:
        return exporter if isinstance(exporter, MetricReader) else PeriodicExportingMetricReader(exporter)

    processors, readers = list(_exporting("traces", BatchSpanProcessor)), list(_exporting("metrics", reader))
    resource = _resource()
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for processor in processors:
        tracer_provider.add_span_processor(processor)
    meter_provider = MeterProvider(readers, resource, shutdown_on_exit=False)
    set_tracer_provider(tracer_provider)
    set_meter_provider(meter_provider)
    return [tracer_provider.shutdown, meter_provider.shutdown]


def _exporting(signal: Literal["traces", "metrics"], wrap: Callable[[Any], Made]) -> Iterator[Made]:
    """Make the exporters that `OTEL_TRACES_EXPORTER`, or `OTEL_METRICS_EXPORTER`, names: `otlp` if it names none.

    :param wrap: makes of an exporter what uses it
    """
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    for part in (os.environ.get(variable) or "otlp").split(","):
        name = part.strip()
        if name not in {"", "none"}:
            exporter = _find(signal, variable, name)
            try:
                yield wrap(exporter.load()())
            except Exception as error:
                raise PluginLoadError(
                    f"OpenTelemetry's exporter {name!r} of {signal} can't be used: {error}"
                ) from error


def _find(signal: str, variable: str, name: str) -> EntryPoint:
    entry_name = _by_protocol(signal) if name == "otlp" else name
    found = {each.name: each for each in entry_points(group=f"opentelemetry_{signal}_exporter")}
    if entry_name in found:
        return found[entry_name]
    there = ", ".join(sorted(found)) or "none"
    text = f"OpenTelemetry's exporter {entry_name!r} of {signal} isn't installed; there are: {there}"
    if entry_name in _PACKAGES:
        raise PluginLoadError(f"{text}. To add it: {_PACKAGES[entry_name]}")
    raise InvalidOptionError(f"{variable} is {name!r}: {text}")


def _by_protocol(signal: str) -> str:
    """Return the name of the exporter for OTLP; without a word on the protocol, OpenTelemetry's own default."""
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(variable, "").strip()
        if protocol and protocol not in _PROTOCOLS:
            raise InvalidOptionError(f"{variable} is {protocol!r}; it must be one of {', '.join(_PROTOCOLS)}")
        if protocol:
            return _PROTOCOLS[protocol]
    return _PROTOCOLS["http/protobuf"]


def _resource() -> Resource:
    """Return what all is told of: named by the environment, else `retryspool`, and one of its kind."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 -- see above

    found = Resource.create()
    ours: dict[str, str] = {}
    if str(found.attributes.get("service.name", "unknown_service")).startswith("unknown_service"):
        ours["service.name"] = "retryspool"
    if "service.instance.id" not in found.attributes:  # else the counters of two workers would be one that jumps
        ours["service.instance.id"] = str(uuid4())
    return found.merge(Resource(ours))
