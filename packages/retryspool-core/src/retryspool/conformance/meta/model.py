"""Any sequence of calls does to a store what it does to a dictionary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from retryspool import records
from retryspool.conformance.exploring import run_machine
from retryspool.conformance.marks import clause
from retryspool.conformance.meta.machine import Both, Stage
from retryspool.conformance.meta_suite import MetaSuite
from retryspool.conformance.profiles import Profile
from retryspool.conformance.stores import Stores
from retryspool.meta import Delete, ListOptions, MetaBackend, MetaFactory, Move, SortBy, Store, Update, Write
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["ModelTests"]

_PAST = (datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC))
_AHEAD = datetime(2999, 1, 1, tzinfo=UTC)
"""By anybody's clock: what is due doesn't change while a test runs, but by the leases that are waited out."""

_IDS = ("a", "A", "a.json", "b", "b.tmp.c", "0")
_WAITING = tuple(state for state in State if state is not State.ACTIVE)

_states = st.sampled_from(State)
_routes = st.sampled_from(["", "x", "y"])
_waiting = st.sampled_from(_WAITING)
_sources = st.lists(_waiting, min_size=1, max_size=3)


@st.composite
def _messages(draw: st.DrawFn) -> MessageMetadata:
    state = draw(_states)
    active = state is State.ACTIVE
    return MessageMetadata(
        draw(st.sampled_from(_IDS)),
        state=state,
        next_retry=draw(st.sampled_from([ZERO_TIME, *_PAST, _AHEAD, NEVER])),
        created=draw(st.sampled_from([ZERO_TIME, *_PAST])),
        priority=draw(st.integers(0, 2)),
        attempts=draw(st.integers(0, 2)),
        headers=draw(st.dictionaries(st.sampled_from("kl"), st.text("äv\n", max_size=2), max_size=2)),
        route=draw(_routes),
        lease_owner=draw(st.sampled_from(["", "w"])) if active else "",
        lease_expires=draw(st.sampled_from([ZERO_TIME, _PAST[0], _AHEAD])) if active else ZERO_TIME,
        claimed_from=draw(st.none() | _waiting) if active else None,
    )


@dataclass(frozen=True, slots=True, repr=False)
class _Draft:
    """A write to something that is there, if anything is: what that has in its sequence decides what it becomes."""

    kind: type[Write]
    pick: int
    """Which of those that are there; a high one picks any id."""
    message: MessageMetadata
    which: str
    """Which version, or state, it expects: the `right` one, a `stale` one, or `any`."""
    to_state: State

    def __repr__(self) -> str:
        """Without what is unset, so that a sequence that fails can be read."""
        usual = MessageMetadata(self.message.id)
        fields = [each.name for each in dataclasses.fields(usual)]
        given = ", ".join(
            f"{name}={value}" for name in fields if (value := getattr(self.message, name)) != getattr(usual, name)
        )
        return (
            f"<{self.kind.__name__} {self.message.id!r} or no. {self.pick}, {self.which}, to {self.to_state}: {given}>"
        )


@st.composite
def _drafts(draw: st.DrawFn, *kinds: type[Write]) -> _Draft:
    return _Draft(
        draw(st.sampled_from(kinds)),
        draw(st.integers(0, 9)),
        draw(_messages()),
        draw(st.sampled_from(["right", "any", "stale"])),
        draw(_states),
    )


_writes = _drafts(Store, Update, Move, Delete)


class _Sequences(RuleBasedStateMachine):
    """What may happen, one after the other."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.both = Both(stage)

    def teardown(self) -> None:
        self.both.end()

    @invariant()
    def each_is_where_it_should_be(self) -> None:
        self.both.look()

    @initialize(batch=st.lists(_drafts(Store), max_size=6))
    def begin(self, batch: Sequence[_Draft]) -> None:
        self.both.does_all([self.concrete(draft) for draft in batch])

    # -- writes --------------------------------------------------------------------------------------------------------

    def concrete(self, draft: _Draft) -> Write:
        there = sorted(self.both.model)
        message_id = there[draft.pick % len(there)] if there and draft.pick < len(_IDS) else draft.message.id
        record = self.both.model.get(message_id, draft.message)
        version = {"right": record.version, "stale": max(0, record.version - 1), "any": None}[draft.which]
        if draft.kind is Store:
            return Store(draft.message)
        if draft.kind is Update:
            return Update(replace(draft.message, id=message_id), version)
        if draft.kind is Delete:
            return Delete(message_id, version)
        return Move(message_id, draft.message.state if draft.which == "stale" else record.state, draft.to_state)

    @rule(draft=_drafts(Store))
    def store(self, draft: _Draft) -> None:
        self.both.does(self.concrete(draft))

    @rule(draft=_drafts(Update))
    def update(self, draft: _Draft) -> None:
        self.both.does(self.concrete(draft))

    @rule(draft=_drafts(Delete))
    def delete(self, draft: _Draft) -> None:
        self.both.does(self.concrete(draft))

    @rule(draft=_drafts(Move))
    def move(self, draft: _Draft) -> None:
        self.both.does(self.concrete(draft))

    @rule(batch=st.lists(_writes, min_size=1, max_size=6))
    def apply(self, batch: Sequence[_Draft]) -> None:
        self.both.does_all([self.concrete(draft) for draft in batch])

    # -- claims --------------------------------------------------------------------------------------------------------

    @rule(sources=_sources, limit=st.integers(1, 4), excluded=st.sets(_routes, max_size=2))
    def claim(self, sources: list[State], limit: int, excluded: set[str]) -> None:
        self.both.claims(sources, limit, excluded, briefly=False)

    @rule(sources=_sources, limit=st.integers(1, 4))
    def claim_and_let_the_lease_expire(self, sources: list[State], limit: int) -> None:
        self.both.claims(sources, limit, set(), briefly=True)

    @rule(how=st.sampled_from(["renew", "renew", "release", "delete", "apply"]))
    def settle(self, how: str) -> None:
        if not self.both.held:
            self.both.claims(list(_WAITING), 2, set(), briefly=False)
        claims = list(self.both.held.values())
        if how == "renew":
            self.both.renews(claims)
        else:
            self.both.held.clear()
            self.settle_all(claims, how)

    @precondition(lambda self: self.both.late)
    @rule(how=st.sampled_from(["renew", "release", "delete", "apply"]))
    def settle_late(self, how: str) -> None:
        claims, self.both.late = self.both.late, []
        if how == "renew":
            self.both.renews(claims)
        else:
            self.settle_all(claims, how)

    def settle_all(self, claims: Sequence[MessageMetadata], how: str) -> None:
        writes: list[Write] = [Update(records.released(claim), claim.version) for claim in claims]
        if how == "delete":
            writes = [Delete(claim.id, claim.version) for claim in claims]
        if how == "apply":
            self.both.does_all(writes)
        else:
            for write in writes:
                self.both.does(write)

    # -- reads ---------------------------------------------------------------------------------------------------------

    @rule(
        state=_states,
        by=st.sampled_from(SortBy),
        descending=st.booleans(),
        page=st.tuples(st.integers(0, 3), st.integers(0, 4)),
        since=st.none() | st.sampled_from(_IDS),
        later=st.sampled_from([timedelta(0), timedelta(microseconds=1)]),
    )
    def list_messages(
        self, state: State, *, by: SortBy, descending: bool, page: tuple[int, int], since: str | None, later: timedelta
    ) -> None:
        record = self.both.model.get(since or "")
        options = ListOptions(
            offset=page[0],
            limit=page[1],
            sort_by=by,
            descending=descending,
            since=(record.updated if record else _PAST[1]) + later if since else None,
        )
        self.both.lists(state, options)

    @rule(
        state=_states,
        batch_size=st.integers(1, 3),
        after=st.integers(0, 2),
        meanwhile=st.lists(_writes, min_size=1, max_size=3),
    )
    def iterate_while_things_move(self, state: State, batch_size: int, after: int, meanwhile: list[_Draft]) -> None:
        self.both.iterates(state, batch_size, after, [self.concrete(draft) for draft in meanwhile])

    @precondition(lambda self: self.both.looks % 4 == 0)  # it costs more than the others
    @rule()
    def open_again(self) -> None:
        self.both.reopen()


class ModelTests(MetaSuite):
    @clause("META-50", "META-13", "META-38")
    def test_any_sequence_of_calls_leaves_what_it_leaves_of_a_dictionary(
        self,
        stores: Stores[MetaFactory, MetaBackend],
        clock: Callable[[], datetime],
        profile: Profile,
        seed: int,
    ) -> None:
        stage = Stage(stores, clock)

        run_machine(
            lambda: _Sequences(stage),
            runs=profile.model_runs,
            steps=profile.model_steps,
            seed=seed,
            shrink=profile.name != "quick",
        )
