"""Any sequence of calls leaves a backend as it leaves a dict: the contract as one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter

from backends import NewMetaFactory
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from retryspool import records
from retryspool.errors import MessageExistsError, MessageNotFoundError, StateConflictError, StorageError
from retryspool.meta import Delete, ListOptions, MetaFactory, Move, SortBy, StateCounter, Store, Update, Write
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State, utc_now

HOUR = timedelta(hours=1)
START = utc_now()

ids = st.sampled_from(["a", "A", "a.json", "b", "b.tmp.c", "0"])
states = st.sampled_from(State)
routes = st.sampled_from(["", "x", "y"])
sources = st.lists(st.sampled_from([state for state in State if state is not State.ACTIVE]), max_size=3)
versions = st.sampled_from(["any", "right", "stale"])
leases = st.sampled_from([ZERO_TIME, START - HOUR, START + HOUR])
due_times = st.sampled_from([ZERO_TIME, START - 2 * HOUR, START - HOUR, START + HOUR, NEVER])
"""Long past or far ahead: what is due doesn't change while a test runs."""


@st.composite
def messages(draw: st.DrawFn) -> MessageMetadata:
    state = draw(states)
    active = state is State.ACTIVE
    return MessageMetadata(
        draw(ids),
        state=state,
        next_retry=draw(due_times),
        priority=draw(st.integers(0, 2)),
        attempts=draw(st.integers(0, 2)),
        headers=draw(st.dictionaries(st.sampled_from("kl"), st.text("äv\n", max_size=2), max_size=2)),
        route=draw(routes),
        lease_owner=draw(st.sampled_from(["", "w"])) if active else "",
        lease_expires=draw(leases) if active else ZERO_TIME,
        claimed_from=draw(st.sampled_from([None, State.INCOMING, State.BOUNCE])) if active else None,
    )


writes = st.one_of(
    messages().map(Store),
    st.builds(Update, messages(), st.none() | st.integers(1, 3)),
    st.builds(Move, ids, states, states),
    st.builds(Delete, ids, st.none() | st.integers(1, 3)),
)


class Backend(RuleBasedStateMachine):
    """Does everything twice: to a backend and to a dict."""

    def __init__(self, factory: MetaFactory) -> None:
        super().__init__()
        self.factory = factory
        self.meta = factory.create()
        self.model: dict[str, MessageMetadata] = {}
        self.claims: dict[str, MessageMetadata] = {}

    def teardown(self) -> None:
        self.meta.close()

    # -- the model: what each write would leave, as records.py says ----------------------------------------------------

    def expect(self, write: Write) -> MessageMetadata | type[StorageError] | None:
        """Carry a write out on the model."""
        message_id = write.metadata.id if isinstance(write, (Store, Update)) else write.message_id
        stored = self.model.get(message_id)
        if isinstance(write, Store):
            return MessageExistsError if stored else self.keep(records.created(write.metadata, utc_now()))
        if stored is None:
            return MessageNotFoundError
        try:
            match write:
                case Update(metadata, if_version):
                    return self.keep(records.updated(stored, metadata, utc_now(), if_version))
                case Move(_, from_state, to_state):
                    return self.keep(records.moved(stored, from_state, to_state, utc_now()))
                case Delete(_, if_version):
                    records.check_version(stored, if_version)
                    del self.model[message_id]
                    return None
        except StateConflictError:
            return StateConflictError

    def keep(self, record: MessageMetadata) -> MessageMetadata:
        self.model[record.id] = record
        return record

    def agree(self, expected: MessageMetadata | type[StorageError] | None, found: object) -> None:
        """Compare, but for what each takes from the clock; there the model takes over the backend's."""
        if isinstance(expected, MessageMetadata):
            assert isinstance(found, MessageMetadata)
            created = found.created if expected.version == 1 else expected.created
            assert replace(expected, updated=found.updated, created=created) == found
            self.keep(found)
        else:
            assert expected is (None if found is None else type(found))

    def does(self, write: Write) -> None:
        expected = self.expect(write)
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
        self.agree(expected, found)

    def version(self, message_id: str, which: str) -> int | None:
        right = self.model[message_id].version if message_id in self.model else 1
        return {"any": None, "right": right, "stale": right - 1}[which]

    # -- what may happen -----------------------------------------------------------------------------------------------

    @rule(message=messages())
    def store(self, message: MessageMetadata) -> None:
        self.does(Store(message))

    @rule(message=messages(), which=versions)
    def update(self, message: MessageMetadata, which: str) -> None:
        self.does(Update(message, self.version(message.id, which)))

    @rule(message_id=ids, which=versions)
    def delete(self, message_id: str, which: str) -> None:
        self.does(Delete(message_id, self.version(message_id, which)))

    @rule(message_id=ids, from_state=states, to_state=states)
    def move(self, message_id: str, from_state: State, to_state: State) -> None:
        self.does(Move(message_id, from_state, to_state))

    @precondition(lambda self: self.model)
    @rule(data=st.data(), to_state=states)
    def move_one_that_is_there(self, data: st.DataObject, to_state: State) -> None:
        message_id = data.draw(st.sampled_from(sorted(self.model)))
        self.does(Move(message_id, self.model[message_id].state, to_state))

    @rule(batch=st.lists(writes, max_size=6))
    def apply(self, batch: Sequence[Write]) -> None:
        results = self.meta.apply(batch)
        assert len(batch) == len(results)
        for write, found in zip(batch, results, strict=True):
            self.agree(self.expect(write), found)

    @rule(sources=sources, limit=st.integers(1, 4), excluded=st.sets(routes, max_size=2))
    def claim(self, sources: list[State], limit: int, excluded: set[str]) -> None:
        def rank(record: MessageMetadata) -> tuple[int, int, datetime] | None:
            """Where a record comes in a claim, None where it doesn't; among expired leases the order is open."""
            if not records.is_claimable(record, START) or record.route in excluded:
                return None
            if record.state is State.ACTIVE:
                return (-1, 0, ZERO_TIME) if record.claimed_from in {None, *sources} else None
            if record.state not in sources:
                return None
            return sources.index(record.state), record.priority, record.next_retry

        ranks = {message_id: found for message_id, record in self.model.items() if (found := rank(record))}

        claimed = self.meta.claim(sources, limit=limit, lease=HOUR, owner="me", exclude_routes=excluded)

        assert len({record.id for record in claimed}) == len(claimed)
        assert sorted(ranks.values())[:limit] == [ranks[record.id] for record in claimed]
        for record in claimed:
            expected = records.claimed(self.model[record.id], owner="me", lease=HOUR, now=record.updated)
            assert replace(expected, lease_expires=record.lease_expires) == record
            assert START + HOUR <= record.lease_expires <= utc_now() + HOUR
            self.claims[record.id] = self.keep(record)

    @rule()
    def renew(self) -> None:
        held = list(self.claims.values())
        results = self.meta.renew(held, lease=2 * HOUR)
        assert len(held) == len(results)
        for claim, found in zip(held, results, strict=True):
            stored = self.model.get(claim.id)
            if stored is None:
                assert isinstance(found, MessageNotFoundError)
            elif stored.version != claim.version or stored.state is not State.ACTIVE:
                assert isinstance(found, StateConflictError)
            else:
                assert isinstance(found, MessageMetadata)
                expected = records.renewed(stored, claim, lease=2 * HOUR, now=found.updated)
                assert replace(expected, lease_expires=found.lease_expires) == found
                self.claims[claim.id] = self.keep(found)

    @rule()
    def release(self) -> None:
        for claim in self.claims.values():
            self.does(Update(records.released(claim), claim.version))
        self.claims.clear()

    @rule()
    def open_again(self) -> None:
        self.meta.close()
        self.meta = self.factory.create()

    # -- what must always hold -----------------------------------------------------------------------------------------

    @invariant()
    def each_record_is_in_its_state_and_no_other(self) -> None:
        found = [record for state in State for record in self.meta.iter_messages(state) if record.state is state]
        assert sorted(self.model.values(), key=attrgetter("id")) == sorted(found, key=attrgetter("id"))

    @invariant()
    def each_record_is_found_by_its_id(self) -> None:
        assert self.model == {message_id: self.meta.get_meta(message_id) for message_id in self.model}

    @rule(state=states, by=st.sampled_from(SortBy), descending=st.booleans(), limit=st.integers(0, 4))
    def list_messages(self, state: State, by: SortBy, descending: bool, limit: int) -> None:  # noqa: FBT001
        matching = [record for record in self.model.values() if record.state is state]
        whole = [r.id for r in sorted(matching, key=attrgetter(by.value, "id"), reverse=descending)]
        listed = self.meta.list_messages(state, ListOptions(limit=limit, sort_by=by, descending=descending))
        assert (tuple(whole[:limit]), len(whole)) == (listed.message_ids, listed.total)
        assert limit == 0 or listed.has_more == (len(whole) > limit)

    @invariant()
    def counts_are_right(self) -> None:
        if isinstance(self.meta, StateCounter):
            for state in State:
                due = [records.due_at(record) for record in self.model.values() if record.state is state]
                assert len(due) == self.meta.get_state_count(state)
                assert min(due, default=None) == self.meta.get_oldest_due(state)


def test_any_sequence_of_calls_leaves_what_the_contract_says(new_meta_factory: NewMetaFactory) -> None:
    run_state_machine_as_test(
        lambda: Backend(new_meta_factory()),  # pyright: ignore[reportArgumentType] -- any maker will do
        settings=settings(deadline=None, max_examples=60, stateful_step_count=30),
    )
