"""What a report says of a backend, beside what its tests came to."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict
from itertools import islice
from typing import Any

from retryspool.data import DataBackend
from retryspool.meta import MetaBackend

__all__ = ["about"]

_MOST_FINDINGS = 50


def about(backend: MetaBackend | DataBackend) -> dict[str, Any]:
    """Describe an open backend: as values that JSON has."""
    return {
        "class": f"{type(backend).__module__}.{type(backend).__qualname__}",
        "distribution": _distribution(type(backend).__module__.partition(".")[0]),
        "versions": dict(backend.versions()),
        "capabilities": asdict(backend.capabilities),
        "findings": [
            f"{finding.severity.value}: {finding.subject}: {finding.text}"
            for finding in islice(backend.check(), _MOST_FINDINGS)
        ],
    }


def _distribution(module: str) -> str:
    for name in importlib.metadata.packages_distributions().get(module, []):
        return f"{name} {importlib.metadata.version(name)}"
    return ""
