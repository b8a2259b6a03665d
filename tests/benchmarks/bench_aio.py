"""How close coroutines come to the ideal: handlers that only wait, and messages that are enqueued at once.

python tests/benchmarks/bench_aio.py --dir /var/tmp [--json]
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import BinaryIO

from harness import Row, by_threads, faster, in_turns, run

from retryspool import Message, Outgoing, Queue, State, aio
from retryspool.queue import AsyncHandle, AsyncPayload, Handle

PAYLOAD = os.urandom(1024)
AT_ONCE = 500
WAIT_S = 0.05
ROUNDS_OF_ALL = 20
MESSAGES = 2000
CALLS = 32


async def wait(message: Message, payload: AsyncPayload) -> None:  # noqa: ARG001 -- it only waits
    """Handle a message that takes 50 ms of waiting."""
    await asyncio.sleep(WAIT_S)


def nothing(message: Message, payload: BinaryIO) -> None:
    """Handle a message that takes nothing."""


def handling(queue: Queue, handler: AsyncHandle | Handle, count: int) -> float:
    """Return how long it takes until `count` messages are handled."""
    with queue:
        queue.enqueue_many(Outgoing(payload=PAYLOAD) for _ in range(count))
        queue.add_handler(handler)
        start = time.perf_counter()
        queue.run(until_idle=True)
        took = time.perf_counter() - start
        if queue.counters.snapshot()["delivered"] != count:
            raise RuntimeError("not all messages were delivered")
    return took


def waiting(meta: str, data: str, count: int) -> float:
    """Return how long it takes until `count` messages are handled, each by a coroutine that waits 50 ms."""
    queue = Queue.open(meta=meta, data=data, concurrency=AT_ONCE, batch_size=AT_ONCE, max_active=4 * AT_ONCE)
    return handling(queue, wait, count)


def ideal(count: int) -> float:
    """Return how long that takes if nothing but the waiting does: 500 at once."""
    return count / AT_ONCE * WAIT_S


def enqueue(folder: Path, rounds: int) -> Row:
    """Measure messages a second into files, by coroutines at once, against as many threads."""
    queue = Queue.open(folder / "threads")

    async def at_once() -> float:
        async with aio.Queue.open(folder / "aio", threads=CALLS) as asynchronous:
            start = time.perf_counter()
            await asyncio.gather(*(asynchronous.enqueue(PAYLOAD) for _ in range(MESSAGES)))
            took = time.perf_counter() - start
            if await asynchronous.count(State.INCOMING) % MESSAGES:
                raise RuntimeError("not all messages were stored")
        return took

    works = {
        "threads": lambda: by_threads(MESSAGES, CALLS, lambda: queue.enqueue(PAYLOAD)),
        "aio": lambda: asyncio.run(at_once()),
    }
    times = in_turns(works, rounds)
    queue.close()
    what = f"enqueue, 1 KiB, {CALLS} at once, by coroutines, against threads"
    return faster(what, times["threads"], times["aio"], MESSAGES, "–")


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all."""
    folder.mkdir(parents=True, exist_ok=True)
    many = ROUNDS_OF_ALL * AT_ONCE
    files = f"fs:{folder}/{{}}?sync=performance"
    times = in_turns(
        {
            "memory": lambda: waiting("memory:", "memory:", many),
            "once": lambda: waiting("memory:", "memory:", AT_ONCE),
            "files": lambda: waiting(files.format("meta"), files.format("data"), MESSAGES),
            "functions": lambda: handling(
                Queue.open(meta=files.format("meta"), data=files.format("data")), nothing, MESSAGES
            ),
        },
        rounds,
    )
    what = f"`async def` handlers that wait 50 ms, {AT_ONCE} at once"
    return [
        faster(f"{what}, in memory", ideal(many), times["memory"], many, "0.8 ×"),
        faster(f"{what}, in memory, only {AT_ONCE} messages", ideal(AT_ONCE), times["once"], AT_ONCE, "–"),
        faster(
            f"{what}, on files, `performance`, against 8 functions that do nothing",
            times["functions"],
            times["files"],
            MESSAGES,
            "–",
        ),
        enqueue(folder, rounds),
    ]


if __name__ == "__main__":
    run(__doc__, measure)
