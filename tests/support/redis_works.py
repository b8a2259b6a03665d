"""What processes of the tests do with a store in Redis."""

from __future__ import annotations

import threading
from datetime import timedelta

from processes import say

from retryspool.errors import BackendUnavailableError, MessageExistsError
from retryspool.meta import Delete
from retryspool.model import MessageMetadata, State
from retryspool_redis_meta import RedisMetaFactory

HOUR = timedelta(hours=1)


def store_for_ever(url: str, prefix: str, worker: str) -> None:
    """Store one message after the other, and say each once it's stored; until killed."""
    with RedisMetaFactory(url, prefix=prefix).create() as backend:
        number = 0
        while True:
            message_id = f"{worker}-{number}"
            backend.store_meta(message_id, MessageMetadata(message_id, headers={"n": str(number)}))
            say(message_id)
            number += 1


def drain(url: str, prefix: str, worker: str) -> list[str]:
    """Claim and delete until nothing is left; return the ids that were claimed."""
    taken: list[str] = []
    with RedisMetaFactory(url, prefix=prefix).create() as backend:
        while claimed := backend.claim([State.INCOMING], limit=7, lease=HOUR, owner=worker):
            taken += [record.id for record in claimed]
            assert {None} == set(backend.apply([Delete(record.id, record.version) for record in claimed]))
    return taken


def store_through_restarts(url: str, prefix: str, worker: str) -> None:
    """Store one message after the other, each until it's known to be stored; say its id, or what an outage said."""
    with RedisMetaFactory(url, prefix=prefix, timeout=5).create() as backend:
        number = 0
        while True:
            message_id = f"{worker}-{number}"
            try:
                backend.store_meta(message_id, MessageMetadata(message_id))
            except BackendUnavailableError as error:
                say([error.outcome])
                threading.Event().wait(0.01)
                continue
            except MessageExistsError:  # the reply was lost
                pass
            say(message_id)
            number += 1
