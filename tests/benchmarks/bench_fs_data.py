"""How fast payloads are stored as files, against what the disk can do: raw calls from Python, in turns in the same run.

python tests/benchmarks/bench_fs_data.py --dir /var/tmp [--json]
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness import RawFiles, Row, faster, in_turns, run

from retryspool.ids import new_message_id
from retryspool_fs_data import FsDataFactory

SIZES = [("1 KiB", 1024, 64, "1 ×"), ("64 KiB", 64 * 1024, 48, "0.9 ×"), ("10 MiB", 10 * 1024 * 1024, 4, "0.9 ×")]
"""What it's called, in bytes, how many in a round, and what to reach."""


def repeat(count: int, work: Callable[[], object]) -> Callable[[], None]:
    """Return the work that does `work` so often."""

    def rounds() -> None:
        for _ in range(count):
            work()

    return rounds


def measure_size(folder: Path, rounds: int, size: tuple[str, int, int, str]) -> list[Row]:
    """Measure payloads of one size."""
    name, size_bytes, count, reach = size
    content = os.urandom(size_bytes)
    raw = RawFiles(folder / "raw", content)
    safe = FsDataFactory(folder / "data")
    with safe.create() as backend, replace(safe, path=folder / "fast", sync="performance").create() as fast:
        times = in_turns(
            {
                "raw": repeat(count, raw.create),
                "store": repeat(count, lambda: backend.store_data(new_message_id(), content, if_absent=True)),
                "many": repeat(1, lambda: backend.store_many([(new_message_id(), content) for _ in range(count)])),
                "raw unsynced": repeat(count, lambda: raw.create(sync=False)),
                "fast": repeat(count, lambda: fast.store_data(new_message_id(), content)),
            },
            rounds,
        )
    return [
        faster(f"payload {name}", times["raw"], times["store"], count, reach),
        faster(f"payload {name}, {count} by `store_many`", times["raw"], times["many"], count, "–"),
        faster(f"payload {name}, `performance` mode", times["raw unsynced"], times["fast"], count, "–"),
    ]


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all sizes."""
    rows: list[Row] = []
    for size in SIZES:
        rows += measure_size(folder / size[0].replace(" ", ""), rounds, size)
    return rows


if __name__ == "__main__":
    run(__doc__, measure)
