"""Claims: what is due, in which order, for whom; and that each message goes to one claimer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.finishing import eventually
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import HOUR, WORK, claim, fill, forget, ids, populated, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.errors import InvalidOptionError
from retryspool.meta import MetaBackend
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["ClaimTests"]

_OTHERS = [State.HOLD, State.BOUNCE, State.ARCHIVED]
_MICROSECOND = timedelta(microseconds=1)

_sources = st.permutations(list[State](WORK)) | st.permutations([*WORK, State.HOLD])

_OUT_OF_RANGE: list[dict[str, Any]] = [
    {"limit": 0},
    {"limit": -1},
    {"lease": timedelta(0)},
    {"lease": -HOUR},
    {"lease": timedelta(days=365, microseconds=1)},
    {"lease": timedelta.max},
    {"owner": ""},
    {"owner": "two words"},
    {"owner": "ä"},
    {"owner": "a\n"},
    {"owner": "x" * 65},
    {"sources": (State.INCOMING, State.ACTIVE)},
]


class ClaimTests(MetaSuite):
    # -- what a claim writes -------------------------------------------------------------------------------------------

    @clause("META-21")
    def test_a_claim_writes_state_owner_lease_and_delivery(
        self, meta: MetaBackend, open_meta: OpenMeta, clock: Callable[[], datetime]
    ) -> None:
        fields = {"deliveries": 2, "attempts": 1, "headers": {"k": "v"}, "route": "r", "last_error": "e"}
        stored = store(meta, "a", state=State.DEFERRED, **fields)
        before = clock()

        (claimed,) = claim(meta, owner="host-1:77")

        after = clock()
        assert before + HOUR <= claimed.lease_expires <= after + HOUR
        assert before <= claimed.updated <= after
        expected = replace(
            stored,
            state=State.ACTIVE,
            claimed_from=State.DEFERRED,
            deliveries=3,
            lease_owner="host-1:77",
            version=2,
            lease_expires=claimed.lease_expires,
            updated=claimed.updated,
        )
        assert expected == claimed
        assert claimed == meta.get_meta("a") == open_meta().get_meta("a")
        assert [claimed] == list(meta.iter_messages(State.ACTIVE))
        assert {State.ACTIVE: ["a"]} == populated(meta)

    @clause("META-24")
    def test_a_claimed_message_goes_to_nobody_else(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        store(meta, "a")
        (claimed,) = claim(meta)

        assert [] == claim(meta, owner="w2")
        assert [] == claim(meta, owner="w1")
        other = open_meta()  # to open the store is no reason to take it from who works on it
        assert [] == claim(other, owner="w2")
        assert {"a": claimed} == everything(other)

    @clause("META-18", "META-21")
    def test_only_the_sources_are_claimed_from(self, meta: MetaBackend) -> None:
        states = [State.INCOMING, State.DEFERRED, *_OTHERS]
        for state in states:
            store(meta, state.label, state=state)

        for state in states:
            (claimed,) = claim(meta, state)
            assert (state.label, state) == (claimed.id, claimed.claimed_from)

    # -- what is due ---------------------------------------------------------------------------------------------------

    @clause("META-18")
    def test_what_is_not_due_is_not_claimed(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        now = clock()
        for state in WORK:
            store(meta, f"never-{state}", state=state, next_retry=NEVER)
            store(meta, f"later-{state}", state=state, next_retry=now + HOUR, priority=0)
        store(meta, "now", next_retry=now)
        store(meta, "unset", next_retry=ZERO_TIME)

        assert ["unset", "now"] == ids(claim(meta))
        assert 4 == sum(meta.list_messages(state).total for state in WORK)

    @clause("META-18")
    def test_a_message_is_claimed_once_it_is_due(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        due = clock() + timedelta(milliseconds=100)
        store(meta, "a", state=State.DEFERRED, next_retry=due)

        claimed = eventually(lambda: claim(meta))

        assert claimed[0].updated >= due

    @clause("META-18")
    def test_what_was_put_off_is_not_due_any_more(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        store(meta, "off", state=State.DEFERRED)
        store(meta, "on", state=State.DEFERRED, next_retry=NEVER)

        meta.update_meta("off", MessageMetadata("off", state=State.DEFERRED, next_retry=clock() + HOUR))
        meta.update_meta("on", MessageMetadata("on", state=State.DEFERRED))

        assert ["on"] == ids(claim(meta))
        meta.update_meta("off", MessageMetadata("off", state=State.DEFERRED, next_retry=clock()))
        assert ["off"] == ids(claim(meta))

    @clause("META-18")
    def test_what_a_move_brings_is_claimed_when_it_is_due(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        store(meta, "due", state=State.HOLD, next_retry=clock())
        store(meta, "later", state=State.HOLD, next_retry=clock() + HOUR)
        for message_id in ("due", "later"):
            meta.move_to_state(message_id, State.HOLD, State.INCOMING)

        assert ["due"] == ids(claim(meta))

    # -- in which order ------------------------------------------------------------------------------------------------

    @clause("META-19")
    def test_sources_go_in_their_order(self, meta: MetaBackend) -> None:
        store(meta, "d", state=State.DEFERRED, priority=0)
        store(meta, "i", state=State.INCOMING, priority=9)
        store(meta, "b", state=State.BOUNCE, priority=5)

        assert ["i", "b", "d"] == ids(claim(meta, State.INCOMING, State.BOUNCE, State.DEFERRED))

    @clause("META-19")
    def test_within_a_source_priority_goes_before_age(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        now = clock()
        for number, (priority, age) in enumerate([(5, 1), (1, 1), (5, 3), (1, 2), (0, 0), (100, 9), (5, 2), (10, 4)]):
            store(meta, f"{number}-{priority}-{age}", priority=priority, next_retry=now - age * HOUR)

        assert [
            *("4-0-0", "3-1-2", "1-1-1", "2-5-3", "6-5-2", "0-5-1", "7-10-4", "5-100-9")
        ] == ids(claim(meta))  # fmt: skip

    @clause("META-19")
    def test_of_equals_the_smaller_id_goes_first(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        now = clock()
        for message_id in ["b", "B", "a", "b2", "a.x", "10", "9", "a-x"]:
            store(meta, message_id, next_retry=now)
        store(meta, "zz", next_retry=now - _MICROSECOND)

        assert ["zz", "10", "9", "B", "a", "a-x", "a.x", "b", "b2"] == ids(claim(meta))

    @clause("META-19", "META-18")
    def test_any_claim_takes_what_sorting_by_hand_takes(
        self, meta: MetaBackend, clock: Callable[[], datetime], profile: Profile, seed: int
    ) -> None:
        now = clock()
        message = st.tuples(st.sampled_from([*WORK, State.HOLD]), st.integers(0, 2), st.integers(-2, 2))

        def check(example: tuple[list[tuple[State, int, int]], int, list[State]]) -> None:
            messages, limit, sources = example
            stored = [
                store(meta, f"m{number}", state=state, priority=priority, next_retry=now + age * HOUR)
                for number, (state, priority, age) in enumerate(messages)
            ]
            due = [record for record in stored if record.next_retry <= now and record.state in sources]
            due.sort(key=lambda r: (sources.index(r.state), r.priority, r.next_retry, r.id))

            assert ids(due[:limit]) == ids(claim(meta, *sources, limit=limit))
            assert ids(due[limit:]) == ids(claim(meta, *sources))
            forget(meta, ids(stored))

        examples = st.tuples(
            st.lists(message, max_size=8),
            st.integers(1, 6),
            _sources,
        )
        explore(examples, check, examples=profile.examples, seed=seed)

    # -- how many ------------------------------------------------------------------------------------------------------

    @clause("META-19", "META-20")
    def test_a_limit_takes_the_first_ones(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        now = clock()
        for age in range(1, 8):
            store(meta, f"{age}", next_retry=now - age * HOUR)

        assert [["7", "6", "5"], ["4", "3", "2"], ["1"], []] == [ids(claim(meta, limit=3)) for _ in range(4)]

    @clause("META-20", "META-19")
    def test_a_limit_goes_across_sources(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        store(meta, "expired", state=State.ACTIVE, claimed_from=State.INCOMING, lease_expires=clock() - HOUR)
        store(meta, "incoming")
        store(meta, "deferred", state=State.DEFERRED)

        assert ["expired", "incoming"] == ids(claim(meta, limit=2))
        assert ["deferred"] == ids(claim(meta, limit=2))

    @clause("META-20", "META-22")
    def test_a_claim_takes_all_that_it_may_however_many_there_are(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        past = clock() - HOUR
        due = ids(fill(meta, [f"m{number:03}" for number in range(120)]))
        lost = {"state": State.ACTIVE, "claimed_from": State.INCOMING, "lease_owner": "dead", "lease_expires": past}
        expired = ids(fill(meta, [f"x{number:03}" for number in range(120)], **lost))
        fill(meta, [f"later{number}" for number in range(30)], next_retry=clock() + HOUR)

        first = ids(claim(meta, limit=150))
        rest = ids(claim(meta, limit=1_000))

        assert (150, 90) == (len(first), len(rest))
        assert set(expired) == set(first[:120])
        assert set(due) == {*first[120:], *rest}

    @clause("META-20")
    def test_nothing_to_claim_is_no_error(self, meta: MetaBackend) -> None:
        assert [] == claim(meta)
        store(meta, "a", state=State.HOLD)
        assert [] == claim(meta)

    # -- routes --------------------------------------------------------------------------------------------------------

    @clause("META-23")
    def test_routes_that_are_excluded_are_passed_over(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        now = clock()
        for number, route in enumerate(["dead", "", "slow", "dead", "fine", "Dead"]):
            store(meta, f"{number}", route=route, next_retry=now - HOUR * (9 - number))
        store(meta, "x", route="dead", state=State.ACTIVE, claimed_from=State.INCOMING)

        assert ["1", "4"] == ids(claim(meta, exclude_routes={"dead", "slow", "unheard-of"}, limit=2))
        assert ["5"] == ids(claim(meta, exclude_routes=["dead", "slow"]))
        assert ["x", "0", "2", "3"] == ids(claim(meta))

    @clause("META-23", "META-20")
    def test_what_is_not_excluded_is_found_behind_any_number_that_are(self, meta: MetaBackend) -> None:
        fill(meta, [f"dead{number}" for number in range(150)], route="dead", priority=0)
        store(meta, "fine", route="fine")
        store(meta, "none")

        assert ["fine", "none"] == sorted(ids(claim(meta, exclude_routes={"dead"}, limit=5)))
        assert [] == claim(meta, exclude_routes={"dead"}, limit=5)

    @clause("META-23")
    def test_messages_without_a_route_may_be_excluded(self, meta: MetaBackend) -> None:
        store(meta, "none")
        store(meta, "fine", route="fine")

        assert ["fine"] == ids(claim(meta, exclude_routes={""}))

    # -- what is refused -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("wrong", _OUT_OF_RANGE, ids=str)
    @clause("META-25")
    def test_a_claim_out_of_range_is_refused_and_claims_nothing(self, meta: MetaBackend, wrong: dict[str, Any]) -> None:
        stored = store(meta, "a")
        options: dict[str, Any] = {"sources": WORK, "limit": 1, "lease": HOUR, "owner": "w", **wrong}

        with pytest.raises(InvalidOptionError):
            meta.claim(options.pop("sources"), **options)

        assert {"a": stored} == everything(meta)

    @clause("META-21", "META-25")
    def test_an_owner_may_be_as_long_as_64_characters(self, meta: MetaBackend) -> None:
        for owner in ("x" * 64, "host-1.example:4711/018f@a_b=c+d", "-", "0"):
            store(meta, "a")
            assert [owner] == [record.lease_owner for record in claim(meta, owner=owner)]
            assert owner == meta.get_meta("a").lease_owner
            meta.delete_meta("a")

    @clause("META-21", "META-25")
    def test_a_lease_may_be_as_short_as_a_microsecond_and_as_long_as_a_year(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        for lease in (_MICROSECOND, timedelta(days=365)):
            store(meta, "a")
            before = clock()
            (claimed,) = claim(meta, lease=lease)
            assert before + lease <= claimed.lease_expires <= clock() + lease
            assert claimed == meta.get_meta("a")
            meta.delete_meta("a")

    # -- races ---------------------------------------------------------------------------------------------------------

    @clause("META-24", "META-20", level=Level.CONCURRENT)
    def test_no_message_goes_to_two_claimers(self, meta: MetaBackend, open_meta: OpenMeta, profile: Profile) -> None:
        names = {f"m{number}" for number in range(profile.messages)}
        fill(meta, sorted(names)[::2])
        fill(meta, sorted(names)[1::2], state=State.DEFERRED, priority=3)
        instances = [meta, open_meta()]

        def work(racer: int) -> list[MessageMetadata]:
            taken: list[MessageMetadata] = []
            while claimed := claim(instances[racer % 2], limit=7, owner=f"w{racer}"):
                assert len(claimed) <= 7
                assert {f"w{racer}"} == {record.lease_owner for record in claimed}
                taken += claimed
            return taken

        results = race(profile.racers, work)

        taken = [record for result in results if isinstance(result, list) for record in result]
        assert profile.racers == sum(isinstance(result, list) for result in results)
        assert sorted(names) == sorted(ids(taken))
        assert {record.id: record for record in taken} == everything(meta)
        assert {(1, 2)} == {(record.deliveries, record.version) for record in taken}

    @clause("META-20", level=Level.CONCURRENT)
    def test_no_claim_is_empty_while_there_is_a_message_for_it(self, meta: MetaBackend, profile: Profile) -> None:
        for part in range(3):
            names = {f"m{part}-{number}" for number in range(profile.racers)}
            fill(meta, names)

            results = race(profile.racers, lambda racer: ids(claim(meta, limit=1, owner=f"w{racer}")))

            assert sorted(names) == sorted(name for result in results if isinstance(result, list) for name in result)

    @clause("META-24", "META-22", level=Level.CONCURRENT)
    def test_an_expired_lease_goes_to_one_claimer(
        self, meta: MetaBackend, clock: Callable[[], datetime], profile: Profile
    ) -> None:
        past = clock() - HOUR
        names = [f"m{number}" for number in range(20)]
        fill(meta, names, state=State.ACTIVE, claimed_from=State.INCOMING, lease_owner="dead", lease_expires=past)

        results = race(profile.racers, lambda racer: ids(claim(meta, limit=10, owner=f"w{racer}")))

        assert sorted(names) == sorted(name for result in results if isinstance(result, list) for name in result)
