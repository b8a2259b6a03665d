"""What processes do to one folder of records in tests, see `processes`."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from processes import say

from retryspool.errors import MessageNotFoundError, StateConflictError
from retryspool.meta import Delete
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory

_opened: dict[str, FsMetaBackend] = {}


def opened(base: str) -> FsMetaBackend:
    """Return this process's backend on a folder."""
    if base not in _opened:
        _opened[base] = FsMetaFactory(base, sync="performance").create()
    return _opened[base]


def prepare(base: str) -> int:
    """Open it and fill the index, so that a race begins at the same moment."""
    return opened(base).get_state_count(State.INCOMING)


def claim_all(base: str, owner: str) -> list[str]:
    """Claim in batches until there's nothing left."""
    claimed: list[str] = []
    while records := opened(base).claim([State.INCOMING], limit=7, lease=timedelta(minutes=5), owner=owner):
        claimed += [record.id for record in records]
    return claimed


def claim_one(base: str, owner: str, lease_s: float) -> str:
    """Claim one, and live on with it."""
    (record,) = opened(base).claim([State.INCOMING], limit=1, lease=timedelta(seconds=lease_s), owner=owner)
    return record.id


def move_all(base: str, ids: int, threads: int) -> list[str]:
    """Try to move each message, with each of some threads; return those that were won."""
    barrier = threading.Barrier(threads)

    def mover(_: int) -> list[str]:
        barrier.wait()
        return [f"m{number}" for number in range(ids) if _won(base, f"m{number}")]

    with ThreadPoolExecutor(threads) as pool:
        return [message_id for won in pool.map(mover, range(threads)) for message_id in won]


def _won(base: str, message_id: str) -> bool:
    try:
        opened(base).move_to_state(message_id, State.INCOMING, State.HOLD)
    except StateConflictError:
        return False
    return True


def store(base: str, message_id: str) -> float:
    """Store a message; return when, by the clock that all processes share."""
    opened(base).store_meta(message_id, MessageMetadata(message_id))
    return time.monotonic()


def move_around(base: str, message_id: str) -> None:
    """Move a message through the states until killed."""
    say("moving")
    states = [State.ARCHIVED, State.INCOMING, State.BOUNCE, State.DEFERRED, State.HOLD]
    while True:
        for here, there in zip(states, states[1:] + states[:1], strict=True):
            opened(base).move_to_state(message_id, here, there)


def hold_lock(base: str, message_id: str) -> None:
    """Take a message's lock and keep it."""
    with opened(base)._locks.holding(message_id):
        say("held")
        threading.Event().wait()


def write_slowly(base: str) -> None:
    """Leave a temporary file, as one who is writing does."""
    backend = opened(base)
    path = f"{base}/incoming/{backend._presence.temporary_name()}"
    with open(path, "w", encoding="ascii"):  # noqa: PTH123
        say(path)
        threading.Event().wait()


def work_for_ever(base: str, seed: int) -> None:
    """Store, claim and settle until killed; say what is acknowledged."""
    backend = opened(base)
    owner = f"w{seed}"
    number = 0
    while True:
        number += 1
        message_id = f"{owner}-{number}"
        backend.store_meta(message_id, MessageMetadata(message_id))
        say(["stored", message_id])
        for record in backend.claim([State.INCOMING], limit=2, lease=timedelta(milliseconds=300), owner=owner):
            say(["claimed", record.id])
            (result,) = _errors_to_text(backend, record)
            say([result, record.id])


def _errors_to_text(backend: FsMetaBackend, record: MessageMetadata) -> list[str]:
    results = backend.apply([Delete(record.id, record.version)])
    return ["late" if isinstance(each, (StateConflictError, MessageNotFoundError)) else "deleted" for each in results]
