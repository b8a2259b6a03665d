"""What the suite's own processes do to a store of records. Each of these runs in a child."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from retryspool.conformance.children import say
from retryspool.conformance.histories import Operation, wait_until
from retryspool.conformance.meta.clients import Client
from retryspool.errors import StorageError
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.model import MessageMetadata, State

__all__ = [
    "Claimed",
    "Part",
    "all_in",
    "claim_all",
    "claim_until",
    "do",
    "play_aloud",
    "play_history",
    "prepare",
    "renew_after",
    "swap_all",
]

_opened: list[MetaBackend] = []
_APART_NS = 2_000_000


def prepare(factory: MetaFactory) -> None:
    """Open the store, once for all that follows."""
    _opened.append(factory.create())


@dataclass(frozen=True, slots=True)
class Part:
    """What a client of a history is told."""

    number: int
    ids: Sequence[str]
    seed: str
    lease: timedelta
    operations: int
    start: int
    """By the monotonic clock, so that all begin at the same time."""


def play_history(part: Part) -> list[Operation]:
    """Be a client of a history."""
    client = Client(_opened[-1], part.number, ids=part.ids, seed=part.seed, lease=part.lease)
    wait_until(part.start)
    return [operation for _ in range(part.operations) for operation in client.act()]


def do(method: str, args: Sequence[object], options: Mapping[str, object] = MappingProxyType({})) -> object:
    """Call a method of the store."""
    return getattr(_opened[-1], method)(*args, **options)


def all_in(state: State) -> list[MessageMetadata]:
    """Return the records of a state."""
    return list(_opened[-1].iter_messages(state))


@dataclass(frozen=True, slots=True)
class Claimed:
    """One claim, by the monotonic clock."""

    message_ids: tuple[str, ...]
    began: int
    ended: int


def claim_all(owner: str, limit: int, start: int) -> list[Claimed]:
    """Claim until nothing is left."""
    claims: list[Claimed] = []
    wait_until(start)
    while not claims or claims[-1].message_ids:
        began = time.monotonic_ns()
        taken = _opened[-1].claim([State.INCOMING], limit=limit, lease=timedelta(hours=1), owner=owner)
        claims.append(Claimed(tuple(record.id for record in taken), began, time.monotonic_ns()))
    return claims


def swap_all(owner: str, message_ids: Sequence[str], start: int) -> dict[str, str]:
    """Try to be the first to change each new record: every other one by a move. Return what each try came to."""
    results: dict[str, str] = {}
    for number, message_id in enumerate(message_ids):
        wait_until(start + number * _APART_NS)  # so that who is ahead waits for the others
        try:
            if number % 2:
                _opened[-1].move_to_state(message_id, State.INCOMING, State.HOLD)
            else:
                record = MessageMetadata(message_id, State.HOLD, last_error=owner)
                _opened[-1].update_meta(message_id, record, if_version=1)
        except StorageError as error:
            results[message_id] = type(error).__name__
        else:
            results[message_id] = "won"
    return results


def claim_until(owner: str, seconds: float) -> list[str]:
    """Claim whatever there is, again and again, for so long."""
    taken: list[str] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        claimed = _opened[-1].claim([State.INCOMING], limit=10, lease=timedelta(hours=1), owner=owner)
        taken += [record.id for record in claimed]
    return taken


def renew_after(claim: MessageMetadata, seconds: float) -> str:
    """Renew a claim after so long; return what that comes to."""
    threading.Event().wait(seconds)
    (result,) = _opened[-1].renew([claim], lease=timedelta(hours=1))
    return type(result).__name__


def play_aloud(part: Part) -> None:
    """Be a client of a history until killed, and tell of each act before and after it."""

    def announce(operations: Sequence[Operation]) -> None:
        say(("does", operations))

    lease = part.lease
    client = Client(_opened[-1], part.number, ids=part.ids, seed=part.seed, lease=lease, announce=announce)
    wait_until(part.start)
    while True:
        did = client.act()
        say(("did", did))
