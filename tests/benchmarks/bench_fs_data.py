"""How fast payloads are stored, against what the disk can do: raw calls from Python, measured in turns in the same run.

    python tests/benchmarks/bench_fs_data.py --dir /var/tmp [--json]

The floor is one thread's create, write, fsync, close, rename and fsync of the directory. Each figure is the median over
the rounds of the time of one payload; each ratio is the floor's over ours, so that more is better.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from retryspool.ids import new_message_id
from retryspool_fs_data import FsDataBackend, FsDataFactory

Work = Callable[[int], None]


@dataclass(frozen=True)
class Case:
    """Payloads of one size: how many at a time in a round."""

    name: str
    size_bytes: int
    count: int
    reach: float


CASES = [
    Case("1 KiB", 1024, 64, 1.0),
    Case("64 KiB", 64 * 1024, 48, 0.9),
    Case("10 MiB", 10 * 1024 * 1024, 2, 0.9),
]


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    what: str
    floor_per_s: float
    ours_per_s: float
    ratio: float
    reach: float | None


def floor(folder: Path, content: bytes, *, sync: bool) -> Work:
    """Return what the disk can do: safe creates, or unsynced ones."""
    folder.mkdir(parents=True)
    directory = os.open(folder, os.O_RDONLY)

    def work(count: int) -> None:
        for _ in range(count):
            name = f"{folder}/{new_message_id()}.data"
            fd = os.open(f"{name}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
            os.close(fd)
            os.rename(f"{name}.tmp", name)  # noqa: PTH104 -- the floor is the bare call
            if sync:
                os.fsync(directory)

    return work


def one_by_one(backend: FsDataBackend, content: bytes, *, if_absent: bool) -> Work:
    """Return the work of `store_data`."""

    def work(count: int) -> None:
        for _ in range(count):
            backend.store_data(new_message_id(), content, if_absent=if_absent)

    return work


def in_batches(backend: FsDataBackend, content: bytes) -> Work:
    """Return the work of `store_many`."""

    def work(count: int) -> None:
        backend.store_many([(new_message_id(), content) for _ in range(count)], if_absent=True)

    return work


def measure(case: Case, folder: Path, rounds: int) -> list[Result]:
    """Measure one size, everything in turns."""
    content = os.urandom(case.size_bytes)
    backend = FsDataFactory(folder / "standard").create()
    fast = FsDataFactory(folder / "performance", sync="performance").create()
    works = {
        "floor": floor(folder / "floor", content, sync=True),
        "store_data": one_by_one(backend, content, if_absent=False),
        "store_data, if_absent": one_by_one(backend, content, if_absent=True),
        "store_many": in_batches(backend, content),
        "floor, unsynced": floor(folder / "unsynced", content, sync=False),
        "store_data, performance": one_by_one(fast, content, if_absent=False),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        turns = list(works.items())
        for name, work in turns[number % len(turns) :] + turns[: number % len(turns)]:
            start = time.perf_counter()
            work(case.count)
            if number:  # the first round warms up
                times[name].append((time.perf_counter() - start) / case.count)
    backend.close()
    fast.close()
    median = {name: statistics.median(each) for name, each in times.items()}

    def result(name: str, against: str, reach: float | None) -> Result:
        ratio = median[against] / median[name]
        return Result(f"{case.name}, {name}", 1 / median[against], 1 / median[name], ratio, reach)

    return [
        result("store_data", "floor", case.reach),
        result("store_data, if_absent", "floor", case.reach),
        result("store_many", "floor", None),
        result("store_data, performance", "floor, unsynced", None),
    ]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="a folder on the disk to measure")
    parser.add_argument("--rounds", type=int, default=11, help="how many rounds the medians are over (default: 11)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    results: list[Result] = []
    for case in CASES:
        folder = Path(tempfile.mkdtemp(prefix="bench-fs-data-", dir=options.dir))
        try:
            results += measure(case, folder, options.rounds)
        finally:
            shutil.rmtree(folder)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return
    print(f"{'':36}{'floor/s':>10}{'ours/s':>10}{'ratio':>8}{'reach':>8}")
    for each in results:
        reach = "" if each.reach is None else f"{each.reach:.1f} ×"
        print(f"{each.what:36}{each.floor_per_s:10,.0f}{each.ours_per_s:10,.0f}{each.ratio:6.2f} ×{reach:>8}")


if __name__ == "__main__":
    main()
