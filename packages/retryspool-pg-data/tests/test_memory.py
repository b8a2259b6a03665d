"""Memory doesn't grow with a payload: measured in a process of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from processes import processes

from retryspool_pg_data import PgDataFactory

MIB = 1024 * 1024
SIZE = 64 * MIB
ALLOWED = 16 * MIB


@pytest.mark.parametrize("work", ["write_large", "read_large", "store_large_bytes"])
def test_a_large_payload_takes_little_memory(factory: PgDataFactory, work: str) -> None:
    factory = replace(factory, chunk_bytes=MIB)
    with processes(1) as (process,):
        if work == "read_large":
            with factory.create() as backend:
                backend.store_data("a", (bytes(MIB) for _ in range(SIZE // MIB)))

        grown = process.call(f"pg_works:{work}", factory.conninfo, factory.table, SIZE)

    assert isinstance(grown, int)
    assert grown < ALLOWED
    with factory.create() as backend:
        assert [SIZE] == [info.size for info in backend.iter_data()]
