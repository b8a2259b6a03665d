"""A store of records beside a dictionary of records: whatever is done to both must return and leave the same."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter

from retryspool import records
from retryspool.conformance.meta_suite import everything
from retryspool.conformance.stores import Stores
from retryspool.errors import MessageExistsError, MessageNotFoundError, StateConflictError, StorageError
from retryspool.meta import (
    Delete,
    ListOptions,
    MetaBackend,
    MetaFactory,
    Move,
    StateCounter,
    Store,
    Update,
    Write,
    WriteResult,
)
from retryspool.model import ZERO_TIME, MessageMetadata, State

__all__ = ["HOUR", "Both", "Stage"]

HOUR = timedelta(hours=1)
BRIEFLY = timedelta(milliseconds=20)
"""A lease that is waited out."""
_PATIENCE = timedelta(seconds=30)
_ALL_EVERY = 8
"""At each so manieth look all states are looked at wholly; else those that were touched."""

Expected = MessageMetadata | type[StorageError] | None


class Stage:
    """The store that sequences are run on, one after the other: cleared in between, which costs less than a new one.

    :param clock: tells the time by the store's clock
    """

    def __init__(self, stores: Stores[MetaFactory, MetaBackend], clock: Callable[[], datetime]) -> None:
        self._stores = stores
        self._factory: MetaFactory | None = None
        self.clock = clock

    def enter(self) -> MetaFactory:
        """Return the factory of an empty store."""
        self._factory = self._factory or self._stores.new()
        return self._factory

    def leave(self, meta: MetaBackend) -> None:
        """Clear the store. One that doesn't get empty isn't used again: what is wrong with it was another run's."""
        try:
            for message_id in everything(meta):
                meta.delete_meta(message_id)
            left = any(meta.list_messages(state, ListOptions(limit=0)).total for state in State)
            left = left or (isinstance(meta, StateCounter) and any(meta.get_state_count(state) for state in State))
        except (AssertionError, StorageError):
            left = True
        if left:
            self._factory = None
        meta.close()


class Both:
    """Does everything twice, to the store and to a dictionary, and compares what it returns and leaves."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._factory = stage.enter()
        self.looks = 0
        self._changed: set[str] = set()
        self._touched: set[State] = set()
        self.meta = self._factory.create()
        self.model: dict[str, MessageMetadata] = {}
        self.held: dict[str, MessageMetadata] = {}
        """Claims whose leases live."""
        self.late: list[MessageMetadata] = []
        """Claims whose leases are over."""
        self._owners = 0

    def end(self) -> None:
        """Leave the store to the next."""
        self._stage.leave(self.meta)

    def reopen(self) -> None:
        """Close the store and open it again."""
        self.meta.close()
        self.meta = self._factory.create()
        self._touched.update(State)

    # -- writes --------------------------------------------------------------------------------------------------------

    def does(self, write: Write) -> None:
        """Carry out one write by the method that it's named after."""
        found: object = None
        try:
            match write:
                case Store(metadata):
                    found = self.meta.store_meta(metadata.id, metadata)
                case Update(metadata, if_version):
                    found = self.meta.update_meta(metadata.id, metadata, if_version=if_version)
                case Move(message_id, from_state, to_state):
                    found = self.meta.move_to_state(message_id, from_state, to_state)
                case Delete(message_id, if_version):
                    self.meta.delete_meta(message_id, if_version=if_version)
        except StorageError as error:
            found = error
        self._agree(self._expect(write), found)

    def does_all(self, batch: Sequence[Write]) -> None:
        """Carry out writes in a batch."""
        results: Sequence[WriteResult] = self.meta.apply(batch)
        assert len(batch) == len(results)
        for write, found in zip(batch, results, strict=True):
            self._agree(self._expect(write), found)

    def _expect(self, write: Write) -> Expected:
        """Carry a write out on the dictionary."""
        message_id = write.metadata.id if isinstance(write, (Store, Update)) else write.message_id
        stored = self.model.get(message_id)
        now = stored.updated if stored else ZERO_TIME  # the store's own is taken over afterwards
        if isinstance(write, Store):
            return MessageExistsError if stored else self._keep(records.created(write.metadata, now))
        if stored is None:
            return MessageNotFoundError
        try:
            match write:
                case Update(metadata, if_version):
                    return self._keep(records.updated(stored, metadata, now, if_version))
                case Move(_, from_state, to_state):
                    return self._keep(records.moved(stored, from_state, to_state, now))
                case Delete(_, if_version):
                    records.check_version(stored, if_version)
                    self._touch(self.model.pop(message_id))
                    return None
        except StateConflictError:
            return StateConflictError

    def _agree(self, expected: Expected, found: object) -> None:
        """Compare, but for what the store takes from its clock; that is taken over."""
        if isinstance(expected, MessageMetadata):
            assert isinstance(found, MessageMetadata), f"expected {expected}, found {found!r}"
            created = found.created if expected.version == 1 and expected.created == ZERO_TIME else expected.created
            assert replace(expected, updated=found.updated, created=created) == found
            assert ZERO_TIME not in {found.updated, found.created}
            self._keep(found)
        else:
            assert expected is (None if found is None else type(found)), f"expected {expected}, found {found!r}"

    def _keep(self, record: MessageMetadata) -> MessageMetadata:
        self._touch(self.model.get(record.id, record))
        self._touch(record)
        self.model[record.id] = record
        return record

    def _touch(self, record: MessageMetadata) -> None:
        self._changed.add(record.id)
        self._touched.add(record.state)

    # -- claims --------------------------------------------------------------------------------------------------------

    def claims(self, sources: Sequence[State], limit: int, excluded: set[str], *, briefly: bool) -> None:
        """Claim; what is claimed briefly is late afterwards."""
        self._owners += 1
        now, owner, lease = self._stage.clock(), f"w{self._owners}", BRIEFLY if briefly else HOUR
        ranks = {
            message_id: rank
            for message_id, record in self.model.items()
            if (rank := _rank(record, sources, now)) and record.route not in excluded
        }

        claimed = self.meta.claim(sources, limit=limit, lease=lease, owner=owner, exclude_routes=excluded)

        assert len({record.id for record in claimed}) == len(claimed)
        assert sorted(ranks.values())[:limit] == [ranks.get(record.id) for record in claimed]
        for record in claimed:
            expected = records.claimed(self.model[record.id], owner=owner, lease=lease, now=record.updated)
            assert replace(expected, lease_expires=record.lease_expires) == record
            assert now + lease <= record.lease_expires
            if record.id in self.held:
                self.late.append(self.held.pop(record.id))
            self._keep(record)
        if briefly:
            self.late += claimed
            self._wait_out(claimed)
        else:
            self.held |= {record.id: record for record in claimed}
            assert all(record.lease_expires <= self._stage.clock() + lease for record in claimed)

    def _wait_out(self, claimed: Sequence[MessageMetadata]) -> None:
        if claimed:
            over = max(record.lease_expires for record in claimed)
            until = self._stage.clock() + _PATIENCE
            while (now := self._stage.clock()) <= over:
                assert now < until, f"a lease of {BRIEFLY} isn't over after {_PATIENCE}"
                threading.Event().wait(BRIEFLY.total_seconds() / 4)

    def renews(self, claims: Sequence[MessageMetadata]) -> None:
        """Renew claims, whosever the messages are by now."""
        results = self.meta.renew(claims, lease=2 * HOUR)
        assert len(claims) == len(results)
        for claim, found in zip(claims, results, strict=True):
            stored = self.model.get(claim.id)
            if stored is None:
                assert isinstance(found, MessageNotFoundError)
            elif stored.version != claim.version or stored.state is not State.ACTIVE:
                assert isinstance(found, StateConflictError)
            elif stored.lease_owner == claim.lease_owner or isinstance(found, MessageMetadata):
                assert isinstance(found, MessageMetadata)
                expected = records.renewed(stored, claim, lease=2 * HOUR, now=found.updated)
                assert replace(expected, lease_expires=found.lease_expires) == found
                assert found.lease_expires >= found.updated + HOUR
                self.held[claim.id] = self._keep(found)

    # -- what must always hold -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Find each message in exactly one state, as it should be, and each count that of the listing."""
        self.looks += 1
        if self.looks % _ALL_EVERY == 0:
            self._touched.update(State)
        for state in State:
            expected = sorted(self._in(state), key=attrgetter("created", "id"))
            listed = self.meta.list_messages(state, ListOptions(limit=100))
            assert (tuple(record.id for record in expected), len(expected)) == (listed.message_ids, listed.total)
        for state in self._touched:
            found = sorted(self.meta.iter_messages(state), key=attrgetter("id"))
            assert sorted(self._in(state), key=attrgetter("id")) == found
            if isinstance(self.meta, StateCounter):
                assert len(found) == self.meta.get_state_count(state)
                assert min(map(records.due_at, found), default=None) == self.meta.get_oldest_due(state)
        for message_id in self._changed:
            self.gets(message_id)
        self._changed.clear()
        self._touched.clear()

    def gets(self, message_id: str) -> None:
        """Read a message that may be there."""
        try:
            found = self.meta.get_meta(message_id)
        except MessageNotFoundError:
            found = None
        assert self.model.get(message_id) == found

    def lists(self, state: State, options: ListOptions) -> None:
        """List a page."""
        since = options.since
        whole = [r for r in self._in(state) if since is None or r.created >= since or r.updated >= since]
        whole.sort(key=attrgetter(options.sort_by.value, "id"), reverse=options.descending)
        page = whole[options.offset : options.offset + options.limit]
        listed = self.meta.list_messages(state, options)
        assert (tuple(record.id for record in page), len(whole)) == (listed.message_ids, listed.total)
        assert options.limit == 0 or listed.has_more == (options.offset + len(page) < len(whole))

    def iterates(self, state: State, batch_size: int, after: int, meanwhile: Sequence[Write]) -> None:
        """Iterate over a state in which things are moved about after the first few records."""
        staying = {record.id for record in self._in(state)}
        found: list[str] = []
        iterator = self.meta.iter_messages(state, batch_size)
        for record in iterator:
            found.append(record.id)
            if len(found) == after:
                break
        for write in meanwhile:
            self.does(write)
            staying &= {record.id for record in self._in(state)}
        found += [record.id for record in iterator]
        assert len(found) == len(set(found)), f"{found} has one twice"
        assert staying <= set(found), f"{staying} stayed, {found} came"

    def _in(self, state: State) -> list[MessageMetadata]:
        return [record for record in self.model.values() if record.state is state]


def _rank(record: MessageMetadata, sources: Sequence[State], now: datetime) -> tuple[int, int, datetime] | None:
    """Return where a record comes in a claim, None where it doesn't; among expired leases the order is open."""
    if not records.is_claimable(record, now):
        return None
    if record.state is State.ACTIVE:
        return (-1, 0, ZERO_TIME) if record.claimed_from in {None, *sources} else None
    return (sources.index(record.state), record.priority, record.next_retry) if record.state in sources else None
