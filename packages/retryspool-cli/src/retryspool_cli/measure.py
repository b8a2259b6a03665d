"""What `bench` measures, and what it is measured against: the same folder's disk, in the same run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from retryspool import Message, MessageMetadata, Queue, Spool, State, new_message_id
from retryspool.meta import Delete

__all__ = ["Figure", "measure", "safe_creates"]

_BATCH = 100
_PART_S = 2.0
"""How long each part may take: on a slow disk it does less."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One result."""

    name: str
    rate: float
    """A second."""
    floor: str
    """What it is compared to."""
    ratio: float | None
    """Its rate by the floor's; None for a floor itself."""


def measure(folder: Path, *, messages: int, size: int, threads: int) -> list[Figure]:
    """Measure a spool in an empty folder.

    :param size: the payloads', in bytes
    """
    payload = os.urandom(size)
    one = safe_creates(folder / "floor-1", messages, payload, threads=1)
    many = safe_creates(folder / "floor-n", messages, payload, threads=threads)
    renames = _renames(folder / "renames", messages)
    removals = _removals(folder / "removals", messages)
    creates = f"safe creates, {threads} threads"
    figures = [
        Figure("safe creates, 1 thread", one, "", None),
        Figure(creates, many, "", None),
        Figure("renames", renames, "", None),
        Figure(f"removals, a sync for {_BATCH}", removals, "", None),
    ]
    with Spool.open(folder / "spool-1") as spool:
        rate = _enqueue(spool, messages, payload, threads=1)
        figures.append(Figure("enqueue, 1 thread", rate, "half the safe creates, 1 thread", rate / (one / 2)))
    with Spool.open(folder / "spool-n") as spool:
        rate = _enqueue(spool, messages, payload, threads=threads)
        figures.append(
            Figure(f"enqueue, {threads} threads", rate, f"half the {creates}", rate / (many / 2)),
        )
        claimed, rate = _claim(spool)
        figures.append(Figure(f"claim, {_BATCH} at a time", rate, "renames", rate / renames))
        rate = _settle(spool, claimed)
        figures.append(Figure(f"settle, {_BATCH} at a time", rate, "removals", rate / removals))
    rate = _end_to_end(folder / "spool-e", messages, payload, threads=threads)
    figures.append(Figure("in and out, 1 process", rate, f"half the {creates}", rate / (many / 2)))
    return figures


def safe_creates(folder: Path, count: int, content: bytes, *, threads: int) -> float:
    """Return how many files a second can be created so that they survive a power cut: what the disk gives."""
    folder.mkdir()
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def create(number: int) -> None:
        temporary = folder / f"{number}.tmp"
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(folder / str(number))
        os.fsync(directory)

    try:
        return _rate(create, count, threads)
    finally:
        os.close(directory)


def _renames(folder: Path, count: int) -> float:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.a").touch()
    return _rate(lambda number: (folder / f"{number}.a").rename(folder / f"{number}.b"), count, 1)


def _removals(folder: Path, count: int) -> float:
    folder.mkdir()
    for number in range(count):
        (folder / str(number)).touch()
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def remove(number: int) -> None:
        (folder / str(number)).unlink()
        if number % _BATCH == _BATCH - 1:
            os.fsync(directory)

    try:
        return _rate(remove, count, 1)
    finally:
        os.close(directory)


def _rate(action: Callable[[int], object], count: int, threads: int) -> float:
    """Return how often a second `action` can be done, by doing it `count` times, or for as long as a part may take."""
    numbers = iter(range(count))
    began = time.perf_counter()

    def run() -> int:
        done = 0
        for number in numbers:  # shared: the next of a range iterator is one step
            action(number)
            done += 1
            if time.perf_counter() - began > _PART_S:
                break
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(future.result() for future in [pool.submit(run) for _ in range(threads)])
    return done / (time.perf_counter() - began)


def _enqueue(spool: Spool, count: int, payload: bytes, *, threads: int) -> float:
    def enqueue(number: int) -> None:
        del number
        spool.enqueue(MessageMetadata(new_message_id()), payload, is_new=True)

    return _rate(enqueue, count, threads)


def _claim(spool: Spool) -> tuple[list[MessageMetadata], float]:
    began = time.perf_counter()
    claimed: list[MessageMetadata] = []
    while some := spool.meta.claim([State.INCOMING], limit=_BATCH, lease=timedelta(minutes=10), owner="bench"):
        claimed += some
    return claimed, len(claimed) / (time.perf_counter() - began)


def _settle(spool: Spool, claimed: list[MessageMetadata]) -> float:
    began = time.perf_counter()
    for start in range(0, len(claimed), _BATCH):
        spool.apply([Delete(record.id, record.version) for record in claimed[start : start + _BATCH]])
    return len(claimed) / (time.perf_counter() - began)


def _end_to_end(folder: Path, count: int, payload: bytes, *, threads: int) -> float:
    """Return how many messages a second go in and out again, while both go on at once."""

    def read(message: Message, payload: BinaryIO) -> None:
        del message
        payload.read()

    with Queue.open(folder) as queue:
        queue.add_handler(read)
        began = time.perf_counter()
        queue.start()
        _rate(lambda _number: queue.enqueue(payload), count, threads)
        queue.stop()
        queue.run(until_idle=True)
        return queue.counters.snapshot()["delivered"] / (time.perf_counter() - began)
