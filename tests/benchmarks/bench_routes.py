"""How long messages to other destinations take to their handler, with and without 100,000 for one that is dead.

    python tests/benchmarks/bench_routes.py --dir /var/tmp [--json]

A message every few milliseconds, to five destinations in turn, through one worker: from before it's enqueued until its
handler begins. In every other round the store also holds the messages of a destination that fails, and is probed twice
a second. Each figure is the median of the rounds' percentiles; the 99th is the fourth of 400 messages, and differs by
half from round to round.
"""

from __future__ import annotations

import gc
import os
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from harness import Row, run

from retryspool import Message, Queue, RouteOptions, State
from retryspool.queue import Outgoing
from retryspool_cli.servers import RedisServer

DEAD = 100_000
MESSAGES = 400
EVERY_S = 0.005
FAILING_S = 0.02
PATIENCE_S = 120.0
ROUTES = {"dead": RouteOptions(rest_s=0.5, rest_factor=1)}


class Timed:
    """A queue whose handler notes when each message came to it."""

    def __init__(self, meta: str, data: str) -> None:
        self.queue = Queue.open(meta=meta, data=data, routes=ROUTES)
        self.queue.add_handler(self.deliver)
        self.probes = 0
        self._came: dict[str, float] = {}
        self._done = threading.Semaphore(0)

    def deliver(self, message: Message, payload: BinaryIO) -> None:
        """Note a message; fail if it's for the dead destination."""
        if message.route == "dead":
            self.probes += 1
            threading.Event().wait(FAILING_S)
            raise ConnectionRefusedError(payload.name)
        self._came[message.id] = time.perf_counter()
        self._done.release()

    def round(self, *, has_dead: bool) -> list[float]:
        """Return how long each message of a round took, in seconds."""
        self.queue.start()
        if has_dead:
            wait_until(lambda: any(status.state == "resting" for status in self.queue.routes()))
        gc.collect()
        began: dict[str, float] = {}
        at = time.perf_counter()
        for number in range(MESSAGES):
            at = max(at + EVERY_S, time.perf_counter())
            threading.Event().wait(max(0.0, at - time.perf_counter()))
            start = time.perf_counter()
            began[self.queue.enqueue(b"", route=f"well-{number % 5}").id] = start
        for _ in range(MESSAGES):
            if not self._done.acquire(timeout=PATIENCE_S):
                raise RuntimeError("a message didn't come")
        self.queue.stop()
        return [self._came.pop(message_id) - start for message_id, start in began.items()]


def wait_until(condition: object) -> None:
    """Wait for what has to come."""
    until = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        if time.monotonic() > until:
            raise RuntimeError("in vain")
        threading.Event().wait(0.01)


def compare(name: str, clean: str, crowded: str, filling: str, rounds: int) -> list[Row]:
    """Measure on two stores, one of which is filled first."""
    data = f"memory:{uuid4().hex}"
    with Queue.open(meta=filling, data=data) as queue:
        queue.enqueue_many(Outgoing(payload=b"", route="dead") for _ in range(DEAD))
    without, beside = Timed(clean, f"memory:{uuid4().hex}"), Timed(crowded, data)
    times: tuple[list[list[float]], list[list[float]]] = ([], [])
    with without.queue, beside.queue:
        without.queue.stop()
        beside.queue.stop()
        wait_until(lambda: sum(beside.queue.count(state) for state in State) == DEAD)
        for number in range(rounds + 1):
            pair = (without.round(has_dead=False), beside.round(has_dead=True))
            if number:
                times[0].append(sorted(pair[0]))
                times[1].append(sorted(pair[1]))
        put_off = beside.queue.counters.snapshot()["put_off"]
    rows: list[Row] = []
    for share in (0.5, 0.99):
        base, ours = (statistics.median(each[int(MESSAGES * share)] for each in rounds_of) for rounds_of in times)
        what = f"{name}: others' latency beside a dead destination of {DEAD:,}, {share * 100:.0f}th percentile"
        rows.append(Row(what, f"{base * 1e3:.2f} ms", f"{ours * 1e3:.2f} ms", ours / base, "within 1.5 ×"))
    touched = beside.probes + put_off
    rows.append(
        Row(
            f"{name}: its messages that were tried, or put off, meanwhile",
            f"{DEAD:,}",
            f"{beside.probes} + {put_off:.0f}",
            touched / DEAD,
            "–",
        )
    )
    return rows


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure on files, then on Redis."""
    clean, crowded = (f"fs:{folder.absolute()}/{name}" for name in ("clean", "crowded"))
    rows = compare("fs", clean, crowded, f"{crowded}?sync=performance", rounds)
    with ExitStack() as stack:
        url = os.environ.get("REDIS_TEST_URL") or stack.enter_context(RedisServer(folder / "redis")).url
        clean, crowded = (f"{url}?namespace={name}" for name in ("clean", "crowded"))
        rows += compare("redis", clean, crowded, crowded, rounds)
    return rows


if __name__ == "__main__":
    run(__doc__, measure)
