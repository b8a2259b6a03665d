"""What processes do between two stores, beside others, until they're killed or done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from retryspool import Message, MessageMetadata, Queue, Spool, State
from retryspool.transfer import Migration

DUE = datetime(2100, 1, 1, tzinfo=UTC)
CREATED = datetime(2020, 1, 1, tzinfo=UTC)
STATES = (State.INCOMING, State.DEFERRED, State.HOLD, State.BOUNCE, State.ARCHIVED)


def opened(folder: str) -> Spool:
    """Open a spool without the syncs, which only take time here."""
    return Spool.open(meta=f"fs:{folder}/meta?sync=performance", data=f"fs:{folder}/data?sync=performance")


def payload_of(message_id: str) -> bytes:
    """Return what the message of this id holds."""
    return f"payload of {message_id}".encode()


def prepare(folder: str, each: int) -> None:
    """Make a store with so many messages in each state but ACTIVE."""
    with opened(folder) as spool:
        for state in STATES:
            for number in range(each):
                record = MessageMetadata(
                    f"{state}-{number}",
                    state=state,
                    attempts=2,
                    next_retry=DUE,
                    created=CREATED,
                    last_error="no answer",
                    priority=3,
                    headers={"to": "you"},
                    route="r",
                    deliveries=3,
                )
                spool.enqueue(record, payload_of(record.id), is_new=True)


def migrate(source: str, target: str, begin: Callable[[], object] = lambda: None) -> int:
    """Move all messages, two at a time; return how many."""
    with opened(source) as from_here, opened(target) as to_there:
        begin()
        moved = Migration(from_here, to_there, batch_size=2).run()
        assert not moved.failed, moved.failed
        return moved.messages


def work(folder: str, log: str) -> None:
    """Deliver what is due, into a file, until killed."""

    def deliver(message: Message, payload: BinaryIO) -> None:
        assert payload.read() == payload_of(message.id)
        with Path(log).open("ab", buffering=0) as file:
            file.write(f"{message.id}\n".encode())

    with Queue(opened(folder)) as queue:
        queue.add_handler(deliver)
        queue.run()
