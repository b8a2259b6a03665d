"""What a worker shows to machines: metrics for Prometheus, and whether it's healthy."""

from __future__ import annotations

__all__: list[str] = []
