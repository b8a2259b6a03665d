"""What is soaked, see `soak.py`: a spool, and the processes that enqueue into it and work it off."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from kill_rounds import open_ledger

from retryspool import (
    BackendUnavailableError,
    FixedRetry,
    Message,
    Outgoing,
    PermanentError,
    Queue,
    RetryableError,
    State,
)

LEASE_S = 3.0
WAITING = 500
"""About so many messages wait at the most: those who enqueue wait for those who work."""
PATIENCE_S = 90.0
_PADDING = b"x" * 20_000


@dataclass(frozen=True)
class Place:
    """Where the spool is."""

    folder: str
    meta: str
    data: str
    fail: float
    """The share of deliveries that fail."""

    def open(self) -> Queue:
        """Open it, as soon as its servers are there."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._open()
            except BackendUnavailableError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def _open(self) -> Queue:
        return Queue.open(
            meta=self.meta,
            data=self.data,
            policies={"soon": FixedRetry(0.3)},
            retry_policy="soon",
            lease_s=LEASE_S,
            poll_s=1,
            concurrency=4,
            on_bounce="delete",
            max_lost_deliveries=1000,
            max_attempts=100,
            unhandled_delay_s=1,
        )


def enqueue(place: Place, ledger: Path) -> None:
    """Enqueue for ever, by one and by a hundred; an id that wasn't acknowledged is tried again."""
    note = open_ledger(ledger)
    pause = threading.Event()
    with place.open() as queue:
        for number in itertools.count():
            ids = [f"{ledger.stem}-{number}-{each}" for each in range(random.choice((1, 100)))]
            while ids:
                try:
                    while queue.count(State.INCOMING) > WAITING:
                        pause.wait(0.02)
                    ids = _enqueue_once(queue, ids, note)
                except BackendUnavailableError:
                    pass
                if ids:
                    pause.wait(0.05)
                    for message_id in ids:
                        note("again", message_id)


def _enqueue_once(queue: Queue, ids: list[str], note: Callable[[str, str], None]) -> list[str]:
    """Enqueue messages; returns which of them have to be tried again."""
    batch = [
        Outgoing(payload=_payload(message_id), message_id=message_id, route=f"route-{hash(message_id) % 20}")
        for message_id in ids
    ]
    left: list[str] = []
    for message_id, result in zip(ids, queue.enqueue_many(batch, if_exists="skip"), strict=True):
        if isinstance(result, BackendUnavailableError):
            left.append(message_id)
        elif isinstance(result, Exception):
            raise result
        else:
            note("accepted", message_id)
    return left


def _payload(message_id: str) -> bytes:
    """Return what the message of an id holds: a tenth of them is large."""
    return message_id.encode() + (_PADDING if message_id.endswith("3") else b"")


def work(place: Place, ledger: Path, *, until_idle: bool = False) -> None:
    """Work, for ever or until there's nothing left to do."""
    note = open_ledger(ledger)
    with place.open() as queue:

        @queue.handler
        def deliver(message: Message, payload: BinaryIO) -> None:
            note("begun", message.id)
            try:
                content = payload.read()
            except BaseException as error:
                note(f"unreadable-{type(error).__name__}", message.id)
                raise
            if content != _payload(message.id):
                note("torn", message.id)
            what = random.random()
            if what < place.fail:
                note("failed", message.id)
                if what < place.fail / 4:
                    raise PermanentError("gone")
                if what < place.fail / 2:
                    raise RetryableError("later", after=timedelta(seconds=random.uniform(0, 1)))
                raise ConnectionError("no answer")
            note("done", message.id)

        @queue.bounce_handler
        def tell(message: Message, payload: BinaryIO) -> None:
            note("begun", message.id)
            payload.read(10)
            note("done", message.id)

        queue.run(until_idle=until_idle)
