"""How soon an idle worker's handler has a message, and what the worker costs while there's none.

    python tests/benchmarks/bench_latency.py --dir /var/tmp [--json]

Messages come one by one, of 1 KiB, in an uneven rhythm. The time is from the call of `enqueue` to the handler's first
line, by the clock of the machine: the producer is in the worker's process, or in another. Stores are files, and Redis
with payloads in files; each where all is synced before `enqueue` returns, and where nothing is, in `performance` mode.
The floor is what the bare writes of a record and a payload take in the same rhythm, with nobody to be told of them: two
creates, or one and a `SET`.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

import redis
from harness import UNSYNCED_REDIS, RawFiles, Row, run

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


def within(stores: Sequence[str], write: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Return how long messages take to a handler in the same process, and how long bare writes take, in seconds."""
    came: SimpleQueue[float] = SimpleQueue()
    took: list[float] = []
    bare: list[float] = []
    with opened(stores) as queue:
        queue.add_handler(lambda message, payload: came.put(time.monotonic()))  # noqa: ARG005 -- it does nothing
        queue.start()
        for _ in range(MESSAGES):
            rhythm()
            start = time.monotonic()
            queue.enqueue(PAYLOAD)
            took.append(came.get(timeout=30) - start)
            rhythm()
            start = time.monotonic()
            write()
            bare.append(time.monotonic() - start)
    return took, bare


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


def rows(name: str, took: Sequence[float], bare: Sequence[float], reach: Sequence[str]) -> list[Row]:
    """Return the rows of a median and a 99th percentile."""
    return [
        Row(f"{name}, {what}", f"{floor * 1e3:.1f} ms", f"{ours * 1e3:.1f} ms", ours / floor, most)
        for what, ours, floor, most in zip(
            ("median", "99th percentile"), percentiles(took), percentiles(bare), reach, strict=True
        )
    ]


def percentiles(took: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


def measure(folder: Path, rounds: int) -> list[Row]:  # noqa: ARG001 -- each message is a round
    """Measure all."""
    table: list[Row] = []
    raw = RawFiles(folder / "raw", PAYLOAD)

    def create_two(*, sync: bool) -> None:
        for _ in range(2):
            raw.create(sync=sync)

    def create_and_set(client: redis.Redis, *, sync: bool) -> None:
        client.set(raw.create(sync=sync), PAYLOAD)

    for sync, mode, name in ((True, "standard", "synced"), (False, "performance", "unsynced")):
        records, payloads, others = (
            f"fs:{folder}/{name}-{part}?sync={mode}" for part in ("records", "payloads", "others")
        )
        table += measured(f"files, {name}", [records, payloads], partial(create_two, sync=sync))
        with (
            RedisServer(folder / f"redis-{name}", settings=None if sync else UNSYNCED_REDIS) as server,
            redis.Redis.from_url(server.url) as client,
        ):
            table += measured(f"Redis, {name}", [server.url, others], partial(create_and_set, client, sync=sync))
    return table


def measured(name: str, stores: Sequence[str], write: Callable[[], object]) -> list[Row]:
    """Return the rows of two stores."""
    within_s, bare_s = within(stores, write)
    across_s, idle = across(stores)
    return [
        *rows(f"{name}: in a process", within_s, bare_s, ("under 2 ms", "under 5 ms")),
        *rows(f"{name}: across processes", across_s, bare_s, ("under 20 ms", "under 20 ms")),
        Row(f"{name}: an idle worker, of a core", "0.5 %", f"{idle:.2%}", idle / 0.005, "under 1 ×"),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2:])
    else:
        run(__doc__, measure)
