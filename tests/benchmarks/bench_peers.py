"""How fast messages go through the queue on Redis, against other queues that deliver at least once, in turns.

    python tests/benchmarks/bench_peers.py --dir /var/tmp [--rounds N] [--json]

Payloads are 1 KiB, the handler does nothing, producers and worker are one process; all use one new Redis server that
syncs nothing. The peers come from PyPI, each into an environment of its own in the folder.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import venv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from uuid import uuid4

from harness import UNSYNCED_REDIS, Row, run
from redis import Redis

from retryspool_cli.servers import RedisServer

PEERS = {
    "taskiq": "taskiq taskiq-redis hiredis",
    "saq": "saq[redis,hiredis] typing_extensions",
    "dramatiq": "dramatiq[redis] hiredis",
    "celery": "celery[redis] hiredis",
    "rq": "rq hiredis",
}
"""What to install for each."""
FIGURES = {"in": "8 producers, in", "out": "one worker, out", "through": "in, and then out"}
MESSAGES = 8000
OURS = "retryspool"


def install(folder: Path) -> dict[str, str]:
    """Return a Python for each; that of a peer is in an environment of its own, since they want different clients."""
    pythons = {OURS: sys.executable}
    for name, wanted in PEERS.items():
        venv.create(folder / name, with_pip=True)
        pythons[name] = str(folder / name / "bin" / "python")
        subprocess.run([pythons[name], "-m", "pip", "install", "-qq", *wanted.split()], check=True)
    return pythons


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all."""
    pythons = install(folder / "peers")
    rates: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in pythons}
    with RedisServer(folder / "redis", settings=UNSYNCED_REDIS) as server, Redis.from_url(server.url) as redis:
        for number in range(min(rounds, 5)):
            names = list(pythons)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                redis.flushall()
                command = [pythons[name], "peers.py", name, server.url, str(folder / uuid4().hex), str(MESSAGES)]
                for figure, rate in _told(command).items():
                    rates[name][figure].append(rate)
    medians = {name: {figure: statistics.median(each) for figure, each in of.items()} for name, of in rates.items()}
    return [row for name in PEERS for row in _rows(name, medians[name], medians[OURS])]


def _told(command: Sequence[str]) -> Mapping[str, float]:
    """Return what a run prints, among what its library says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=120, check=False)
    for line in done.stdout.splitlines():
        if line.startswith('{"in"'):
            return json.loads(line)
    raise RuntimeError(done.stdout + done.stderr)


def _rows(name: str, peer: Mapping[str, float], ours: Mapping[str, float]) -> list[Row]:
    return [
        Row(
            f"{name}: {what}",
            f"{peer[figure]:,.0f}/s",
            f"{ours[figure]:,.0f}/s",
            ours[figure] / peer[figure],
            "1.5 ×" if figure == "out" else "–",
        )
        for figure, what in FIGURES.items()
    ]


if __name__ == "__main__":
    run(__doc__, measure)
