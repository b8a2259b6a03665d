"""What can be done with a message in both file backends: for tests that cut it off at every step."""

from __future__ import annotations

from collections.abc import Callable

from retryspool import Queue

PAYLOAD = b"payload " * 1000

OLD = "old"
NEW = "new"


def prepare(folder: str) -> None:
    """Store the message that is there before."""
    with Queue.open(folder) as queue:
        queue.enqueue(PAYLOAD, message_id=OLD)


def _enqueue(queue: Queue) -> None:
    queue.enqueue(PAYLOAD, message_id=NEW)


def _enqueue_in_pieces(queue: Queue) -> None:
    with queue.begin_enqueue(message_id=NEW, headers={"a": "b"}) as writer:
        writer.write(PAYLOAD[:3000])
        writer.write(PAYLOAD[3000:])


def _enqueue_what_is_there(queue: Queue) -> None:
    queue.enqueue(b"another payload", message_id=OLD, if_exists="skip")


def _delete(queue: Queue) -> None:
    queue.delete(OLD)


def _hold_and_release(queue: Queue) -> None:
    queue.hold(OLD)
    queue.release(OLD)


WORKS: dict[str, Callable[[Queue], None]] = {
    "enqueue": _enqueue,
    "enqueue in pieces": _enqueue_in_pieces,
    "enqueue what is there": _enqueue_what_is_there,
    "delete": _delete,
    "hold and release": _hold_and_release,
}


def work(folder: str, name: str, begin: Callable[[], None]) -> None:
    """Do one of `WORKS` on the spool in a folder, after calling `begin`."""
    queue = Queue.open(folder)
    begin()
    WORKS[name](queue)
