"""A process that works on records until it is killed, and says what it is about to do and what was acknowledged."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from retryspool.conformance.children import say
from retryspool.errors import StorageError
from retryspool.meta import Delete, MetaBackend, MetaFactory, Move, Store, Update, Write, WriteResult
from retryspool.model import NEVER, MessageMetadata, State

__all__ = ["LEASE", "Claim", "Did", "Intends", "Renew", "toil"]

LEASE = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim from `INCOMING`."""

    owner: str


@dataclass(frozen=True, slots=True)
class Renew:
    """A renewal of a claim."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Intends:
    """What is about to be done: if nothing more is heard, any part of it may have been."""

    calls: Sequence[Write | Claim | Renew]


@dataclass(frozen=True, slots=True)
class Did:
    """What was acknowledged: the records as stored, and the ids of those that are gone."""

    records: Sequence[MessageMetadata]
    gone: Sequence[str] = ()


def toil(factory: MetaFactory, name: str) -> None:
    """Work until killed."""
    toiler = _Toiler(factory.create(), name)
    while True:
        toiler.act()


class _Toiler:
    """Nobody else changes what it does, so nothing may be refused."""

    def __init__(self, meta: MetaBackend, name: str) -> None:
        self._meta = meta
        self._name = name
        self._random = random.Random(name)
        self._numbers = itertools.count()
        self._held: dict[str, MessageMetadata] = {}
        self._on_hold: list[MessageMetadata] = []

    def act(self) -> None:
        kinds = (self._store, self._claim, self._settle, self._settle_all, self._renew, self._release)
        (kind,) = self._random.choices(kinds, (4, 3, 2, 2, 1, 1))
        kind()

    def _new(self) -> MessageMetadata:
        number = next(self._numbers)
        state = State.HOLD if number % 4 == 0 else State.INCOMING
        return MessageMetadata(f"{self._name}-{number}", state, headers={"k": "v" * self._random.randrange(2000)})

    def _store(self) -> None:
        record = self._new()
        (stored,) = self._writes([Store(record)], lambda: [self._meta.store_meta(record.id, record)])
        if isinstance(stored, MessageMetadata) and stored.state is State.HOLD:
            self._on_hold.append(stored)

    def _claim(self) -> None:
        say(Intends([Claim(self._name)]))
        claimed = self._meta.claim([State.INCOMING], limit=3, lease=LEASE, owner=self._name)
        self._held |= {record.id: record for record in claimed}
        say(Did(claimed))

    def _settle(self) -> None:
        if self._held:
            _, claim = self._held.popitem()
            write = self._settlement(claim)
            if isinstance(write, Delete):
                self._writes([write], lambda: [self._meta.delete_meta(claim.id, if_version=claim.version)])
            else:
                record = write.metadata
                self._writes([write], lambda: [self._meta.update_meta(record.id, record, if_version=claim.version)])

    def _settle_all(self) -> None:
        """Settle what it holds and store more, in one batch."""
        writes: list[Write] = [self._settlement(claim) for claim in self._held.values()]
        writes += [Store(replace(self._new(), state=State.INCOMING)) for _ in range(3)]
        self._held.clear()
        self._random.shuffle(writes)
        self._writes(writes, lambda: self._meta.apply(writes))

    def _settlement(self, claim: MessageMetadata) -> Update | Delete:
        if self._random.random() < 0.5:
            return Delete(claim.id, claim.version)
        failed = MessageMetadata(claim.id, State.DEFERRED, attempts=1, next_retry=NEVER, deliveries=claim.deliveries)
        return Update(failed, claim.version)

    def _renew(self) -> None:
        claims = list(self._held.values())
        say(Intends([Renew(claim.id) for claim in claims]))
        renewed = _stored(self._meta.renew(claims, lease=LEASE))
        self._held |= {record.id: record for record in renewed}
        say(Did(renewed))

    def _release(self) -> None:
        if self._on_hold:
            held = self._on_hold.pop()
            self._writes(
                [Move(held.id, State.HOLD, State.INCOMING)],
                lambda: [self._meta.move_to_state(held.id, State.HOLD, State.INCOMING)],
            )

    def _writes(
        self, writes: Sequence[Write], perform: Callable[[], Sequence[WriteResult | None]]
    ) -> Sequence[WriteResult]:
        say(Intends(writes))
        results = perform()
        gone = [write.message_id for write in writes if isinstance(write, Delete)]
        say(Did(_stored(results), gone))
        return results


def _stored(results: Sequence[WriteResult]) -> list[MessageMetadata]:
    for result in results:
        if isinstance(result, StorageError):
            raise result
    return [result for result in results if isinstance(result, MessageMetadata)]
