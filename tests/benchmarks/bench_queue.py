"""How fast messages go through the whole queue on file backends, and in how much memory.

python tests/benchmarks/bench_queue.py --dir /var/tmp [--json]
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from harness import RawFiles, Row, by_threads, faster, in_turns, run

from retryspool import Message, Queue, State

PAYLOAD = os.urandom(1024)
MESSAGES = 2000
GIGABYTE = 1024**3
CHUNK = os.urandom(1024**2)


def rates(folder: Path, rounds: int) -> list[Row]:
    """Measure messages a second into the queue, and out of it by one worker whose handler does nothing."""
    raw = RawFiles(folder / "raw", PAYLOAD)
    queue = Queue.open(folder / "spool")
    handled = threading.Semaphore(0)

    @queue.handler
    def deliver(message: object, payload: BinaryIO) -> None:  # noqa: ARG001 -- it does nothing
        handled.release()

    def fill() -> None:
        by_threads(MESSAGES, 8, lambda: queue.enqueue(PAYLOAD))

    def drain() -> float:
        fill()
        start = time.perf_counter()
        queue.run(until_idle=True)
        took = time.perf_counter() - start
        if queue.count(State.INCOMING) + queue.count(State.ACTIVE):
            raise RuntimeError("the queue isn't empty")
        return took

    def clear() -> float:
        start = time.perf_counter()
        fill()
        took = time.perf_counter() - start
        queue.run(until_idle=True)
        return took

    times = in_turns(
        {
            "raw": lambda: by_threads(2 * MESSAGES, 8, raw.create),
            "in": clear,
            "out": drain,
        },
        rounds,
    )
    latencies = sorted(latency(queue, handled))
    queue.close()
    return [
        faster("enqueue, 1 KiB, 8 threads, against two raw creates", times["raw"], times["in"], MESSAGES, "–"),
        Row(
            "one worker, handler that does nothing, out",
            "2,000/s",
            f"{MESSAGES / times['out']:,.0f}/s",
            MESSAGES / times["out"] / 2000,
            "1 ×",
        ),
        Row(
            "idle: from enqueue to the handler, median",
            "20 ms",
            f"{latencies[len(latencies) // 2] * 1e3:.1f} ms",
            latencies[len(latencies) // 2] / 0.02,
            "under 1 ×",
        ),
    ]


def latency(queue: Queue, handled: threading.Semaphore) -> Iterator[float]:
    """Yield how long single messages take to their handler, enqueuing included, when nothing else is going on."""
    while handled.acquire(blocking=False):
        pass
    queue.start()
    for _ in range(50):
        start = time.perf_counter()
        queue.enqueue(PAYLOAD)
        handled.acquire()
        yield time.perf_counter() - start
    queue.stop()


def gigabyte(folder: Path) -> Row:
    """Measure the extra memory of a process through which 1 GiB goes into the queue and out again."""
    script = f"import bench_queue; bench_queue.through({str(folder.absolute())!r})"
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, cwd=here)
    extra = int(done.stdout)
    limit = 32 * 1024**2
    return Row("1 GiB in and out: extra memory", "32 MiB", f"{extra / 1024**2:.1f} MiB", extra / limit, "under 1 ×")


def through(folder: str) -> None:
    """Store a payload of 1 GiB, read it in a handler, and print by how many bytes the process has grown at its most."""
    queue = Queue.open(folder)
    read = 0

    @queue.handler
    def deliver(message: Message, payload: BinaryIO) -> None:  # noqa: ARG001 -- only its payload matters
        nonlocal read
        while chunk := payload.read(len(CHUNK)):
            read += len(chunk)

    queue.enqueue(b"warm up")
    queue.run(until_idle=True)
    read = 0
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew: see proc(5)
    before = peak_bytes()
    queue.enqueue(CHUNK for _ in range(GIGABYTE // len(CHUNK)))
    queue.run(until_idle=True)
    extra = peak_bytes() - before
    queue.close()
    if read != GIGABYTE:
        raise RuntimeError(f"{read} bytes came back")
    print(extra)


def peak_bytes() -> int:
    """Return the most memory that this process has had since its peak was reset."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all."""
    return [*rates(folder, min(rounds, 5)), gigabyte(folder / "gigabyte")]


if __name__ == "__main__":
    run(__doc__, measure)
