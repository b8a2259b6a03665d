"""How soon an idle worker's handler has a message, and what the worker costs while there's none.

    python tests/benchmarks/bench_latency.py --dir /var/tmp [--json]

Messages come one by one, of 1 KiB, in an uneven rhythm. The time is from the call of `enqueue` to the handler's first
line, by the clock of the machine: the producer is in the worker's process, or in another. Stores are files, synced, and
Redis with payloads in files, Redis syncing each write.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from harness import Row, run

from retryspool import Message, Queue
from retryspool_cli.servers import RedisServer

PAYLOAD = os.urandom(1024)
MESSAGES = 300
IDLE_S = 20.0
RHYTHM_S = (0.01, 0.06)
"""Between two messages, from and to."""


def opened(stores: Sequence[str]) -> Queue:
    """Return a queue on a folder, or on two URLs."""
    return Queue.open(stores[0]) if len(stores) == 1 else Queue.open(meta=stores[0], data=stores[1])


def rhythm() -> None:
    """Wait until it's time for the next one."""
    time.sleep(random.uniform(*RHYTHM_S))


def within(stores: Sequence[str]) -> list[float]:
    """Return how long messages take to a handler in the same process, in seconds."""
    came: SimpleQueue[float] = SimpleQueue()
    took: list[float] = []
    with opened(stores) as queue:
        queue.add_handler(lambda message, payload: came.put(time.monotonic()))  # noqa: ARG005 -- it does nothing
        queue.start()
        for _ in range(MESSAGES):
            rhythm()
            start = time.monotonic()
            queue.enqueue(PAYLOAD)
            took.append(came.get(timeout=30) - start)
    return took


def across(stores: Sequence[str]) -> tuple[list[float], float]:
    """Return the same for a worker in another process; and the share of a core that this takes while it's idle."""
    took: list[float] = []
    with opened(stores) as queue, other_process(stores) as worker:
        for _ in range(MESSAGES):
            rhythm()
            start = time.monotonic()
            queue.enqueue(PAYLOAD)
            took.append(float(worker.stdout.readline()) - start)  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        before = cpu_s(worker.pid)
        time.sleep(IDLE_S)
        idle = (cpu_s(worker.pid) - before) / IDLE_S
        worker.terminate()
    return took, idle


def other_process(stores: Sequence[str]) -> subprocess.Popen[str]:
    """Start a worker that prints when each message came, and that has begun to wait for some."""
    command = [sys.executable, __file__, "--work", *stores]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    if worker.stdout is None or worker.stdout.readline() != "ready\n":
        raise RuntimeError("the worker didn't begin")
    return worker


def work(stores: Sequence[str]) -> None:
    """Be that worker."""

    def handle(message: Message, payload: BinaryIO) -> None:  # noqa: ARG001 -- only that it came matters
        print(time.monotonic(), flush=True)

    queue = opened(stores)
    queue.add_handler(handle)
    queue.start()
    print("ready", flush=True)
    signal.pause()


def cpu_s(pid: int) -> float:
    """Return the processor's time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rows(name: str, took: Sequence[float], p50_ms: float, p99_ms: float) -> list[Row]:
    """Return the rows of a median and a 99th percentile."""
    figures = {
        "median": (statistics.median(took), p50_ms),
        "99th percentile": (statistics.quantiles(took, n=100)[98], p99_ms),
    }
    return [
        Row(f"{name}, {what}", f"{most:g} ms", f"{each * 1e3:.1f} ms", each * 1e3 / most, "under 1 ×")
        for what, (each, most) in figures.items()
    ]


def measure(folder: Path, rounds: int) -> list[Row]:  # noqa: ARG001 -- each message is a round
    """Measure all."""
    table: list[Row] = []
    with RedisServer(folder / "redis") as server:
        for name, stores in {
            "files": [str(folder / "spool")],
            "files, `performance`": [f"fs:{folder}/{part}?sync=performance" for part in ("records", "contents")],
            "Redis": [server.url, f"fs:{folder}/payloads"],
        }.items():
            table += rows(f"{name}: in a process", within(stores), 2, 5)
            took, idle = across(stores)
            table += rows(f"{name}: across processes", took, 20, 20)
            table.append(Row(f"{name}: an idle worker, of a core", "0.5 %", f"{idle:.2%}", idle / 0.005, "under 1 ×"))
    return table


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2:])
    else:
        run(__doc__, measure)
