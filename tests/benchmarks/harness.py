"""What the benchmarks share: works done in turns, medians, ratios against a floor, and the table.

No figure stands alone: each is measured in turns with its floor, and what counts is the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

UNSYNCED_REDIS = {"appendonly": "no", "appendfsync": "no"}
"""Settings of a server that writes nothing to the disk."""

Work = Callable[[], float | None]
"""One round of something; returns how long it took in seconds if it measured that itself."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    floor: str
    """What the floor's figure is, with its unit."""
    ours: str
    ratio: float
    """More is better, unless `reach` begins with "within" or "under"."""
    reach: str


def in_turns(works: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """Do all works in turns, `rounds` times and once to warm up; return the median time of each in seconds."""
    times: dict[str, list[float]] = {name: [] for name in works}
    turns = list(works.items())
    for number in range(rounds + 1):
        for name, work in turns[number % len(turns) :] + turns[: number % len(turns)]:
            start = time.perf_counter()
            measured = work()
            took = time.perf_counter() - start if measured is None else measured
            if number:
                times[name].append(took)
    return {name: statistics.median(each) for name, each in times.items()}


def faster(what: str, floor_s: float, ours_s: float, count: int, reach: str) -> Row:
    """Return the row of a rate: `count` a round, the ratio how close ours comes to the floor."""
    return Row(what, f"{count / floor_s:,.0f}/s", f"{count / ours_s:,.0f}/s", floor_s / ours_s, reach)


def slower(what: str, base_s: float, ours_s: float, reach: str) -> Row:
    """Return the row of a time that may grow: the ratio by how much it has."""
    return Row(what, f"{base_s * 1e6:,.0f} µs", f"{ours_s * 1e6:,.0f} µs", ours_s / base_s, reach)


class RawFiles:
    """The floor: the bare calls that make, rename and remove files of some bytes in a folder of their own."""

    def __init__(self, folder: Path, content: bytes) -> None:
        folder.mkdir(parents=True)
        self.other = f"{folder}/other"
        Path(self.other).mkdir()
        self.folder = f"{folder}/files"
        Path(self.folder).mkdir()
        self.directory = os.open(self.folder, os.O_RDONLY)
        self.content = content
        self.made = 0
        self._lock = threading.Lock()

    def create(self, *, sync: bool = True) -> str:
        """Create, write, fsync, close, rename, fsync of the directory; or the same unsynced."""
        with self._lock:
            self.made += 1
            path = f"{self.folder}/{self.made:08x}-739b-aea5-966c26f8ad90"
        fd = os.open(f"{path}.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        view = memoryview(self.content)
        while view:
            view = view[os.write(fd, view) :]
        if sync:
            os.fsync(fd)
        os.close(fd)
        os.rename(f"{path}.tmp", path)  # noqa: PTH104 -- the bare call
        if sync:
            os.fsync(self.directory)
        return path

    def unlink(self, paths: Sequence[str]) -> None:
        """Unlink, then one fsync of the directory."""
        for path in paths:
            os.unlink(path)  # noqa: PTH108 -- the bare call
        os.fsync(self.directory)

    def rename(self, paths: Sequence[str]) -> None:
        """Rename into another folder."""
        for path in paths:
            os.rename(path, f"{self.other}/{path[-32:]}")  # noqa: PTH104 -- the bare call


def by_threads(count: int, threads: int, work: Callable[[], object]) -> None:
    """Do `work` `count` times, shared between threads."""

    def part() -> None:
        for _ in range(count // threads):
            work()

    team = [threading.Thread(target=part) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()


def run(description: str | None, measure: Callable[[Path, int], list[Row]]) -> None:
    """Be a benchmark's command line: measure in a new folder, and print the table."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="a folder on the disk to measure")
    parser.add_argument("--rounds", type=int, default=11, help="how many rounds the medians are over (default: 11)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="retryspool-bench-", dir=options.dir))
    try:
        rows = measure(folder, options.rounds)
    finally:
        shutil.rmtree(folder)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print("| what | floor | ours | ratio | to reach |\n| --- | ---: | ---: | ---: | --- |")
    for row in rows:
        print(f"| {row.what} | {row.floor} | {row.ours} | {row.ratio:.2f} × | {row.reach} |")
