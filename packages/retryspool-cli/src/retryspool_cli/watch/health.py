"""Whether a worker is healthy, as containers and load balancers ask."""

from __future__ import annotations

from typing import TypedDict

from retryspool import Queue
from retryspool.queue import Paused
from retryspool_cli.watch.stores import Stores, look_at_payloads, look_at_records, trouble

__all__ = ["STALLED_S", "HealthJson", "check_spool", "readiness"]

STALLED_S = 10.0
"""A worker that has tried to claim for so long, in vain, isn't ready."""


class HealthJson(TypedDict):
    """What `/readyz` says: `ok`, or what is wrong."""

    ready: bool
    records: str
    payloads: str
    worker: str
    paused: bool


def readiness(queue: Queue, stores: Stores) -> HealthJson:
    """Tell whether a worker takes messages, and can store what becomes of them; without waiting for long."""
    records = stores.records.get()
    problems = {"records": trouble(records), "payloads": trouble(stores.payloads.get()), "worker": _worker(queue)}
    return _health(problems, records.value.paused if records.value else None)


def _worker(queue: Queue) -> str:
    if not queue.running:
        return "it takes no messages: it hasn't begun, or it stops"
    stalled_s = queue.stalled_s
    return f"it hasn't been able to claim for {stalled_s:.0f} s" if stalled_s > STALLED_S else ""


def check_spool(queue: Queue) -> HealthJson:
    """Tell whether the stores of a spool answer; of workers nothing is known."""
    problems = {"records": "", "payloads": "", "worker": ""}
    paused = None
    try:
        paused = look_at_records(queue).paused
    except Exception as error:  # noqa: BLE001 -- whatever is wrong is the answer
        problems["records"] = f"{type(error).__name__}: {error}"
    try:
        look_at_payloads(queue)
    except Exception as error:  # noqa: BLE001 -- whatever is wrong is the answer
        problems["payloads"] = f"{type(error).__name__}: {error}"
    return {**_health(problems, paused), "worker": "unknown"}


def _health(problems: dict[str, str], paused: Paused | None) -> HealthJson:
    return {
        "ready": not any(problems.values()),
        "records": problems["records"] or "ok",
        "payloads": problems["payloads"] or "ok",
        "worker": problems["worker"] or "ok",
        "paused": paused is not None and paused.spool is not None,
    }
