"""All benchmarks of the file backends and of the queue on them, in one table.

    python tests/benchmarks/all.py --dir /var/tmp [--json]

What counts is the ratio to the floor beside it, measured in turns in the same run on the same disk.
"""

from __future__ import annotations

from pathlib import Path

import bench_fs_data
import bench_fs_meta
import bench_queue
from harness import Row, run


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all."""
    return [
        *bench_fs_meta.measure(folder / "meta", rounds),
        *bench_fs_data.measure(folder / "data", rounds),
        *bench_queue.measure(folder / "queue", rounds),
    ]


if __name__ == "__main__":
    run(__doc__, measure)
