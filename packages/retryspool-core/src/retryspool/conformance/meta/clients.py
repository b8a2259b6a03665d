"""Clients of a history: each does at random what callers do, and notes what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from retryspool import meta as interface
from retryspool.conformance import histories
from retryspool.conformance.histories import OPEN, Open, Operation, timed
from retryspool.conformance.meta.sequential import (
    SOURCE,
    Call,
    Claim,
    Delete,
    Get,
    Move,
    Record,
    Refused,
    Renew,
    Store,
    Update,
)
from retryspool.errors import (
    MessageExistsError,
    MessageNotFoundError,
    StateConflictError,
    StorageError,
)
from retryspool.meta import MetaBackend
from retryspool.model import MessageMetadata, State

__all__ = ["Client"]

_Result = MessageMetadata | StorageError | None
_REFUSALS = (MessageExistsError, MessageNotFoundError, StateConflictError)
_STATES = tuple(state for state in State if state is not State.ACTIVE)
"""Where a message is put by hand. It becomes `ACTIVE` by claims alone, so that it's known what a claim may miss."""


class Client(histories.Client[Call, _Result]):
    """One client of a store.

    :param lease: how long it claims for
    :param announce: called with what is about to begin, as open operations
    """

    def __init__(
        self,
        meta: MetaBackend,
        number: int,
        *,
        ids: Sequence[str],
        seed: str,
        lease: timedelta,
        announce: Callable[[Sequence[Operation]], object] = lambda _: None,
    ) -> None:
        super().__init__(number, ids=ids, seed=seed, announce=announce)
        self._meta = meta
        self._lease = lease
        self._seen: dict[str, MessageMetadata] = {}
        self._held: dict[str, MessageMetadata] = {}

    def act(self) -> list[Operation]:
        """Do one thing; return the operations that it came to, one for each message concerned."""
        kinds = (self._get, self._store, self._update, self._delete, self._move, self._claim, self._settle, self._renew)
        (kind,) = self._random.choices(kinds, (3, 2, 2, 1, 2, 4, 3, 3))
        return kind()

    def look(self) -> list[Operation]:
        """Read every message."""
        return [operation for message_id in self._ids for operation in self._get_one(message_id)]

    # -- what it does --------------------------------------------------------------------------------------------------

    def _get(self) -> list[Operation]:
        return self._get_one(self._any_id())

    def _get_one(self, message_id: str) -> list[Operation]:
        return self._single(message_id, Get(), lambda: self._meta.get_meta(message_id))

    def _store(self) -> list[Operation]:
        call = Store(self._content(), self._random.choice((SOURCE, SOURCE, *_STATES)))
        record = MessageMetadata(self._any_id(), call.state, last_error=call.content)
        return self._single(record.id, call, lambda: self._meta.store_meta(record.id, record))

    def _update(self) -> list[Operation]:
        call = Update(
            self._content(), self._random.choice((SOURCE, *_STATES)), self._version(message_id := self._any_id())
        )
        record = MessageMetadata(message_id, call.state, last_error=call.content)
        return self._single(
            message_id, call, lambda: self._meta.update_meta(message_id, record, if_version=call.if_version)
        )

    def _delete(self) -> list[Operation]:
        call = Delete(self._version(message_id := self._any_id()))
        return self._single(message_id, call, lambda: self._meta.delete_meta(message_id, if_version=call.if_version))

    def _move(self) -> list[Operation]:
        seen = self._seen.get(message_id := self._any_id())
        call = Move(seen.state if seen else SOURCE, self._random.choice((SOURCE, *_STATES)))
        return self._single(
            message_id, call, lambda: self._meta.move_to_state(message_id, call.from_state, call.to_state)
        )

    def _claim(self) -> list[Operation]:
        call = Claim(f"client-{self._number}")
        limit = self._random.choice((1, len(self._ids) + 1))
        self._begin([(message_id, call) for message_id in self._ids])
        had = timed(lambda: self._meta.claim([SOURCE], limit=limit, lease=self._lease, owner=call.owner))
        if had is None:
            return []
        if isinstance(had.result, Open):
            return [Operation(self._number, each, call, OPEN, had.began, None) for each in self._ids]
        taken = {record.id: record for record in had.result}
        assert len(taken) == len(had.result) <= limit, f"a claim of up to {limit} returned {had.result}"
        self._seen |= taken
        self._held |= taken
        # One that returns some may have left others for that they were being written; an empty one says none was due.
        concerned = tuple(taken) or self._ids
        results = {each: Record.of(taken[each]) if each in taken else None for each in concerned}
        return [Operation(self._number, each, call, results[each], had.began, had.ended) for each in concerned]

    def _settle(self) -> list[Operation]:
        """Settle what it holds, in a batch."""
        calls: list[tuple[str, Update | Delete]] = []
        for claim in self._held.values():
            update = Update(self._content(), self._random.choice((SOURCE, *_STATES)), claim.version)
            calls.append((claim.id, self._random.choice((update, update, Delete(claim.version)))))
        self._held.clear()
        return self._batch(calls, lambda: self._meta.apply([_write(message_id, call) for message_id, call in calls]))

    def _renew(self) -> list[Operation]:
        claims = list(self._held.values())
        calls = [(claim.id, Renew(claim.lease_owner, claim.version)) for claim in claims]
        return self._batch(calls, lambda: self._meta.renew(claims, lease=self._lease))

    # -- what it notes -------------------------------------------------------------------------------------------------

    def _single(self, message_id: str, call: Call, perform: Callable[[], MessageMetadata | None]) -> list[Operation]:
        def answer() -> Sequence[_Result]:
            try:
                return [perform()]
            except _REFUSALS as error:
                return [error]

        return self._batch([(message_id, call)], answer)

    def _noted(self, message_id: str, call: Call, result: _Result) -> Record | Refused | None:
        if isinstance(result, MessageMetadata):
            self._seen[message_id] = result
            if isinstance(call, Renew):
                self._held[message_id] = result
            return Record.of(result)
        if isinstance(result, StorageError) and not isinstance(result, _REFUSALS):
            raise result
        if result is None:
            return None
        found = result.found if isinstance(call, Move) and isinstance(result, StateConflictError) else None
        return Refused(type(result), found)

    def _version(self, message_id: str) -> int | None:
        seen = self._seen.get(message_id)
        return self._random.choice((seen.version, seen.version, None)) if seen else None


def _write(message_id: str, call: Update | Delete) -> interface.Write:
    if isinstance(call, Delete):
        return interface.Delete(message_id, call.if_version)
    return interface.Update(MessageMetadata(message_id, call.state, last_error=call.content), call.if_version)
