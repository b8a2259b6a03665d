"""Payloads larger than the memory that they may cost."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from retryspool.conformance.children import children
from retryspool.conformance.comparing import assert_all_same, assert_same
from retryspool.conformance.data.payloads import KIB, MIB, pieces
from retryspool.conformance.data_suite import DataSuite
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.data import DataBackend, DataFactory

__all__ = ["StreamingTests", "peak_bytes", "stream"]

_LIMIT = 64 * MIB
_ENOUGH = 96 * MIB
"""A payload that doesn't fit into the limit."""


class StreamingTests(DataSuite):
    @clause("DATA-19", level=Level.DURABLE)
    def test_memory_does_not_grow_with_the_payload(
        self, data: DataBackend, data_factory: DataFactory, profile: Profile
    ) -> None:
        size = max(profile.payload_bytes, _ENOUGH)
        if data.capabilities.processes:
            with children(1) as (child,):
                grown = child.call(stream, data_factory, size)
        elif data.capabilities.durable:
            grown = _traced(data_factory, size)
        else:
            pytest.skip("capabilities processes and durable are declared off: payloads are in memory to begin with")

        growth = cast("dict[str, int]", grown)
        assert _LIMIT > max(growth.values()), {step: f"{more / MIB:.1f} MiB more" for step, more in growth.items()}


def stream(factory: DataFactory, size: int) -> dict[str, int]:
    """Store, read, write and delete a large payload; return how much more memory was needed up to each step."""
    with factory.create() as data:
        _steps(data, 1 * KIB)  # what is imported, opened and cached at first isn't the payload's
        return _steps(data, size)


def _steps(data: DataBackend, size: int) -> dict[str, int]:
    grown: dict[str, int] = {}
    before = peak_bytes()
    for step in (_store, _read, _fetch, _write, _read, _delete):
        step(data, size)
        now = peak_bytes()
        grown[f"{len(grown) + 1} {step.__name__[1:]}"] = now - before
    return grown


def _store(data: DataBackend, size: int) -> None:
    assert size == data.store_data("large", pieces(size))


def _read(data: DataBackend, size: int) -> None:
    with data.get_data_reader("large") as reader:
        for piece in pieces(size):
            assert_same(piece, reader.read(len(piece)), "what is read")
        assert b"" == reader.read(1)


def _fetch(data: DataBackend, size: int) -> None:
    assert_all_same({}, data.fetch_many(["large"], max_bytes=size // 1000))


def _write(data: DataBackend, size: int) -> None:
    with data.get_data_writer("large") as writer:
        for piece in pieces(size):
            for at in range(0, len(piece), 64 * KIB):
                writer.write(piece[at : at + 64 * KIB])


def _delete(data: DataBackend, size: int) -> None:  # noqa: ARG001 -- a step like the others
    data.delete_data("large")


def peak_bytes() -> int:
    """Return the most memory that this process has had at a time.

    From Linux by the process's own account where there is one: `ru_maxrss` there may be that of the parent.
    """
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[1]
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KIB
    import resource  # noqa: PLC0415 -- not on Windows
    import sys  # noqa: PLC0415 -- for this line only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else KIB)


def _traced(factory: DataFactory, size: int) -> dict[str, int]:
    """Do so in this process, for a store that no other can open: what Python allocates is counted."""
    tracemalloc.start()
    try:
        return stream(factory, size)
    finally:
        tracemalloc.stop()
