"""Queues on Redis that deliver at least once, as their documentation has it: `python peers.py NAME URL FOLDER COUNT`.

Each is filled by 8 producers at once, then one worker in the same process takes all; the handler does nothing. Prints
as JSON how many messages a second went in, out, and through. Run by `bench_peers.py`, in an environment that has it.
"""

# ruff: noqa: PLC0415 -- only one of them is there to be imported
# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable

PAYLOAD = "x" * 1024  # text, which none of them has to escape
PRODUCERS = 8
CONCURRENCY = 100
"""Coroutines of a worker that has no number of its own to recommend."""


class Handled:
    """When the first message came to the handler, and when the last did."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.count = count
        self.first_at = 0.0
        self.last_at = 0.0
        self.is_all = threading.Event()
        self._lock = threading.Lock()

    def one(self) -> None:
        """Count one."""
        with self._lock:
            self.left -= 1
            if self.left == self.count - 1:
                self.first_at = time.perf_counter()
            if self.left == 0:
                self.last_at = time.perf_counter()
                self.is_all.set()

    def tell(self, filled_s: float) -> None:
        """Print the rates, and end the process: how a worker stops isn't what is measured."""
        drained_s = self.last_at - self.first_at
        figures = {"in": self.count / filled_s, "out": (self.count - 1) / drained_s}
        print(json.dumps({**figures, "through": self.count / (filled_s + drained_s)}), flush=True)
        os._exit(0)

    async def all(self, filled_s: float) -> None:
        """Wait for the last one, and tell."""
        await asyncio.to_thread(self.is_all.wait)
        self.tell(filled_s)


def by_threads(count: int, send: Callable[[], object]) -> float:
    """Send so many, shared between threads; return how long it took in seconds."""

    def part() -> None:
        for _ in range(count // PRODUCERS):
            send()

    team = [threading.Thread(target=part) for _ in range(PRODUCERS)]
    start = time.perf_counter()
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    return time.perf_counter() - start


async def by_coroutines(count: int, send: Callable[[], Awaitable[object]]) -> float:
    """Send so many, shared between coroutines; return how long it took in seconds."""

    async def part() -> None:
        for _ in range(count // PRODUCERS):
            await send()

    start = time.perf_counter()
    await asyncio.gather(*(part() for _ in range(PRODUCERS)))
    return time.perf_counter() - start


def retryspool(url: str, folder: str, handled: Handled) -> None:
    """Ours: records in Redis, payloads in files that nobody syncs."""
    from retryspool import Queue

    with Queue.open(meta=f"{url}?prefix=peers", data=f"fs:{folder}/payloads?sync=performance") as queue:
        filled_s = by_threads(handled.count, lambda: queue.enqueue(PAYLOAD.encode()))
        queue.add_handler(lambda message, payload: handled.one())  # noqa: ARG005
        queue.start()
        handled.is_all.wait()
        queue.stop()
    handled.tell(filled_s)


def taskiq(url: str, _: str, handled: Handled) -> None:
    """Taskiq on a stream with a consumer group, which acknowledges when a task is done."""
    from taskiq.acks import AcknowledgeType
    from taskiq.api import run_receiver_task
    from taskiq_redis import RedisStreamBroker

    broker = RedisStreamBroker(url)

    @broker.task(ack_type=AcknowledgeType.WHEN_EXECUTED.value)
    async def work(payload: str) -> None:  # noqa: ARG001
        handled.one()

    async def run() -> None:
        await broker.startup()
        filled_s = await by_coroutines(handled.count, lambda: work.kiq(PAYLOAD))
        broker.is_worker_process = True
        await asyncio.gather(run_receiver_task(broker, max_async_tasks=CONCURRENCY), handled.all(filled_s))

    asyncio.run(run())


def saq(url: str, _: str, handled: Handled) -> None:
    """SAQ, whose queue keeps what is being worked on in a list of its own."""
    from saq import Queue, Worker

    async def work(context: object, *, payload: str) -> None:  # noqa: ARG001
        handled.one()

    async def run() -> None:
        queue = Queue.from_url(url)
        await queue.connect()
        filled_s = await by_coroutines(handled.count, lambda: queue.enqueue("work", payload=PAYLOAD))
        worker = Worker(queue, functions=[("work", work)], concurrency=CONCURRENCY)
        await asyncio.gather(worker.start(), handled.all(filled_s))

    asyncio.run(run())


def dramatiq(url: str, _: str, handled: Handled) -> None:
    """Dramatiq, whose broker acknowledges when an actor has returned."""
    import dramatiq as library
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url)
    library.set_broker(broker)

    @library.actor
    def work(payload: str) -> None:  # noqa: ARG001
        handled.one()

    filled_s = by_threads(handled.count, lambda: work.send(PAYLOAD))
    worker = library.Worker(broker, worker_threads=8)
    worker.start()
    handled.is_all.wait()
    handled.tell(filled_s)


def celery(url: str, _: str, handled: Handled) -> None:
    """Celery with late acknowledgement, its worker on threads."""
    from celery import Celery

    app = Celery("peers", broker=url)
    app.conf.update(task_acks_late=True, task_ignore_result=True, worker_redirect_stdouts=False)

    @app.task(name="work")
    def work(payload: str) -> None:  # noqa: ARG001
        handled.one()

    filled_s = by_threads(handled.count, lambda: work.delay(PAYLOAD))
    worker = app.Worker(pool="threads", concurrency=8, loglevel="ERROR", without_gossip=True, without_mingle=True)
    threading.Thread(target=worker.start, daemon=True).start()
    handled.is_all.wait()
    handled.tell(filled_s)


def rq_work(payload: str) -> None:  # noqa: ARG001
    """Do nothing: a job of RQ is found by the name of its function."""
    RQ[0].one()


RQ: list[Handled] = []


def rq(url: str, _: str, handled: Handled) -> None:
    """RQ, whose simple worker doesn't fork for each job."""
    from redis import Redis
    from rq import Queue, SimpleWorker

    RQ.append(handled)
    connection = Redis.from_url(url)
    queue = Queue(connection=connection)
    filled_s = by_threads(handled.count, lambda: queue.enqueue("peers.rq_work", PAYLOAD, result_ttl=0))
    SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
    handled.tell(filled_s)


PEERS = {each.__name__: each for each in (retryspool, taskiq, saq, dramatiq, celery, rq)}

if __name__ == "__main__":
    sys.modules["peers"] = sys.modules["__main__"]  # where RQ looks for its function
    PEERS[sys.argv[1]](sys.argv[2], sys.argv[3], Handled(int(sys.argv[4])))
