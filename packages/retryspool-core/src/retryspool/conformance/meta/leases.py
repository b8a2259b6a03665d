"""Leases: how they end, how they are renewed, and what a late worker's result is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from retryspool.conformance.finishing import eventually
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import (
    HOUR,
    MOMENT,
    claim,
    fill,
    ids,
    populated,
    record_of,
    renewed,
    store,
    wait_until,
)
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.errors import InvalidMessageIdError, InvalidOptionError, MessageNotFoundError, StateConflictError
from retryspool.meta import Delete, MetaBackend, Update
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State
from retryspool.records import released

__all__ = ["LeaseTests"]


class LeaseTests(MetaSuite):
    # -- how a lease ends ----------------------------------------------------------------------------------------------

    @clause("META-22", "META-24")
    def test_a_lease_that_has_expired_is_taken_over(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        store(meta, "a", state=State.DEFERRED, next_retry=ZERO_TIME)
        (first,) = claim(meta, lease=MOMENT * 2)
        other = open_meta()

        second = eventually(lambda: claim(other, owner="w2"))

        assert second[0].updated >= first.lease_expires
        expected = replace(
            first,
            lease_owner="w2",
            deliveries=2,
            version=3,
            lease_expires=second[0].lease_expires,
            updated=second[0].updated,
        )
        assert [expected] == second
        assert expected == meta.get_meta("a")

    @clause("META-19", "META-22")
    def test_expired_leases_go_first(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        now = clock()
        lost = {"state": State.ACTIVE, "claimed_from": State.DEFERRED, "lease_owner": "dead"}
        store(meta, "due", priority=0)
        store(meta, "expired", priority=9, lease_expires=now, **lost)
        store(meta, "earlier", priority=9, lease_expires=now - HOUR, next_retry=now, **lost)
        store(meta, "urgent", priority=1, lease_expires=now, **lost)

        assert ["urgent", "earlier", "expired", "due"] == ids(claim(meta))

    @clause("META-22")
    def test_an_expired_lease_is_taken_over_only_by_who_works_on_where_it_was_claimed_from(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        lost = {"lease_owner": "w", "lease_expires": clock() - HOUR}
        stored = store(meta, "a", state=State.ACTIVE, claimed_from=State.BOUNCE, **lost)

        assert [] == claim(meta, State.INCOMING, State.DEFERRED)
        assert {"a": stored} == everything(meta)
        (claimed,) = claim(meta, State.BOUNCE)

        assert State.BOUNCE is claimed.claimed_from

    @clause("META-22")
    def test_an_active_message_without_a_lease_may_be_claimed_by_anybody_at_once(self, meta: MetaBackend) -> None:
        store(meta, "a", state=State.ACTIVE, next_retry=NEVER)

        (claimed,) = claim(meta, State.BOUNCE)

        assert (None, "w1", 1) == (claimed.claimed_from, claimed.lease_owner, claimed.deliveries)
        assert [] == claim(meta, State.BOUNCE)

    @clause("META-22")
    def test_without_sources_only_leases_that_came_from_nowhere_are_taken_over(self, meta: MetaBackend) -> None:
        store(meta, "a", state=State.ACTIVE)
        store(meta, "b", state=State.ACTIVE, claimed_from=State.INCOMING)
        store(meta, "c")

        assert ["a"] == ids(meta.claim((), limit=9, lease=HOUR, owner="w"))

    @clause("META-24")
    def test_a_lease_that_lives_is_nobody_elses_wherever_it_came_from(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        lease = {"state": State.ACTIVE, "lease_owner": "w", "lease_expires": clock() + HOUR}
        stored = [store(meta, "nowhere", **lease), store(meta, "somewhere", claimed_from=State.INCOMING, **lease)]

        assert [] == claim(meta, State.INCOMING, State.DEFERRED, State.BOUNCE)
        assert {record.id: record for record in stored} == everything(meta)

    @clause("META-18", "META-22")
    def test_the_end_of_a_lease_that_was_settled_means_nothing(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        for message_id in ("deferred", "moved", "held", "renewed", "gone"):
            store(meta, message_id)
        claimed = {record.id: record for record in claim(meta, lease=MOMENT)}
        later = clock() + HOUR
        stored = [
            meta.update_meta("deferred", MessageMetadata("deferred", state=State.DEFERRED, next_retry=later)),
            meta.update_meta("moved", replace(claimed["moved"], next_retry=later, lease_expires=NEVER)),
            meta.move_to_state("held", State.ACTIVE, State.HOLD),
            *renewed(meta, [claimed["renewed"]]),
        ]
        meta.delete_meta("gone")

        wait_until(clock, max(record.lease_expires for record in claimed.values()) + MOMENT)

        assert [] == claim(meta, owner="w2")
        assert {record.id: record for record in stored} == everything(meta)

    @clause("META-21", "META-22")
    def test_every_take_over_is_a_delivery(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        store(meta, "a", state=State.BOUNCE)

        for delivery in range(1, 4):
            (claimed,) = claim(meta, State.BOUNCE, lease=timedelta(microseconds=1), owner=f"w{delivery}")
            assert (delivery, f"w{delivery}", State.BOUNCE) == (
                claimed.deliveries,
                claimed.lease_owner,
                claimed.claimed_from,
            )
            wait_until(clock, claimed.lease_expires)

    # -- renewals ------------------------------------------------------------------------------------------------------

    @clause("META-27")
    def test_a_renewal_extends_the_lease(
        self, meta: MetaBackend, open_meta: OpenMeta, clock: Callable[[], datetime]
    ) -> None:
        store(meta, "a", headers={"k": "v"}, route="r")
        claimed = claim(meta, lease=timedelta(minutes=1))
        before = clock()

        (held,) = renewed(meta, claimed, 2 * HOUR)

        assert before + 2 * HOUR <= held.lease_expires <= clock() + 2 * HOUR
        assert replace(claimed[0], version=3, lease_expires=held.lease_expires, updated=held.updated) == held
        assert held == meta.get_meta("a") == open_meta().get_meta("a")
        assert {State.ACTIVE: ["a"]} == populated(meta)

    @clause("META-27")
    def test_a_renewal_is_to_its_length_from_now_whatever_was_left(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        store(meta, "a")
        claimed = claim(meta, lease=2 * HOUR)

        (held,) = renewed(meta, claimed, HOUR)

        assert claimed[0].lease_expires - HOUR <= held.lease_expires <= clock() + HOUR

    @clause("META-27")
    def test_a_renewed_lease_is_renewed_again(self, meta: MetaBackend) -> None:
        store(meta, "a")
        held = claim(meta)

        for _ in range(3):
            held = renewed(meta, held)

        assert [(5, 1)] == [(record.version, record.deliveries) for record in held]
        assert held == [meta.get_meta("a")]

    @clause("META-27", "META-24")
    def test_a_renewal_keeps_the_message_from_others(
        self, meta: MetaBackend, open_meta: OpenMeta, clock: Callable[[], datetime]
    ) -> None:
        store(meta, "a")
        claimed = claim(meta, lease=MOMENT)
        renewed(meta, claimed)

        wait_until(clock, claimed[0].lease_expires)

        assert [] == claim(meta, owner="w2") == claim(open_meta(), owner="w3")

    @clause("META-27")
    def test_a_lease_that_nobody_took_over_is_renewed_though_it_has_expired(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        store(meta, "a")
        claimed = claim(meta, lease=timedelta(microseconds=1))
        wait_until(clock, claimed[0].lease_expires)

        renewed(meta, claimed)

        assert [] == claim(meta, owner="w2")

    @clause("META-28", "META-9")
    def test_a_renewal_answers_for_each_message(self, meta: MetaBackend) -> None:
        for message_id in "abcdef":
            store(meta, message_id)
        claimed = claim(meta)
        meta.delete_meta("b")
        moved = meta.move_to_state("c", State.ACTIVE, State.HOLD)
        deferred = meta.update_meta("e", replace(claimed[4], state=State.DEFERRED, next_retry=NEVER))

        results = meta.renew(claimed[::-1], lease=HOUR)

        kinds = [MessageMetadata, StateConflictError, MessageMetadata, StateConflictError, MessageNotFoundError]
        assert [*kinds, MessageMetadata] == [type(result) for result in results]
        kept = {record.id: record for record in map(record_of, [results[0], results[2], results[5]])}
        assert {**kept, "c": moved, "e": deferred} == everything(meta)

    @clause("META-28")
    def test_what_was_never_claimed_is_not_renewed(self, meta: MetaBackend) -> None:
        stored = [store(meta, state.label, state=state) for state in State if state is not State.ACTIVE]

        results = meta.renew(stored, lease=HOUR)

        assert [StateConflictError] * 5 == [type(result) for result in results]
        assert {record.id: record for record in stored} == everything(meta)

    @clause("META-28")
    def test_no_renewal_is_no_error(self, meta: MetaBackend) -> None:
        assert [] == meta.renew([], lease=HOUR)

    @clause("META-28", "META-27")
    def test_many_leases_are_renewed_at_once(self, meta: MetaBackend) -> None:
        fill(meta, [f"m{number:03}" for number in range(120)])
        claimed = claim(meta, limit=120)
        meta.delete_meta("m077")

        results = meta.renew(claimed, lease=2 * HOUR)

        assert ["m077"] == [
            claim.id for claim, result in zip(claimed, results, strict=True) if not isinstance(result, MessageMetadata)
        ]
        assert [record for record in results if isinstance(record, MessageMetadata)] == sorted(
            everything(meta).values(), key=lambda record: record.id
        )

    @clause("META-2", "META-28")
    def test_a_renewal_with_an_id_that_is_none_renews_nothing(self, meta: MetaBackend) -> None:
        store(meta, "a")
        claimed = claim(meta)

        with pytest.raises(InvalidMessageIdError):
            meta.renew([*claimed, MessageMetadata("../x")], lease=HOUR)

        assert claimed == [meta.get_meta("a")]

    @clause("META-25")
    def test_a_renewal_out_of_range_is_refused(self, meta: MetaBackend) -> None:
        store(meta, "a")
        claimed = claim(meta)

        for lease in (timedelta(0), -HOUR, timedelta(days=366)):
            with pytest.raises(InvalidOptionError, match="lease"):
                meta.renew(claimed, lease=lease)

        assert claimed == [meta.get_meta("a")]

    # -- late results --------------------------------------------------------------------------------------------------

    @clause("META-29", "META-11")
    def test_a_late_worker_cannot_touch_a_message_that_was_taken_over(
        self, meta: MetaBackend, open_meta: OpenMeta, clock: Callable[[], datetime]
    ) -> None:
        store(meta, "a")
        (late,) = claim(meta, lease=timedelta(microseconds=1))
        wait_until(clock, late.lease_expires)
        (taken,) = claim(open_meta(), owner="w2")

        (renewal,) = meta.renew([late], lease=HOUR)
        (deletion,) = meta.apply([Delete("a", if_version=late.version)])
        (deferral,) = meta.apply([Update(replace(late, state=State.DEFERRED), if_version=late.version)])

        assert all(isinstance(refused, StateConflictError) for refused in (renewal, deletion, deferral))
        for refused in (
            lambda: meta.delete_meta("a", if_version=late.version),
            lambda: meta.update_meta("a", released(late), if_version=late.version),
            lambda: meta.update_meta("a", replace(late, state=State.BOUNCE), if_version=late.version),
        ):
            with pytest.raises(StateConflictError):
                refused()
        assert {"a": taken} == everything(meta)

    @clause("META-29")
    def test_a_late_worker_brings_nothing_back_that_another_has_settled(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        store(meta, "a")
        (late,) = claim(meta, lease=timedelta(microseconds=1))
        wait_until(clock, late.lease_expires)
        (taken,) = claim(meta, owner="w2")
        meta.delete_meta("a", if_version=taken.version)

        results = [*meta.renew([late], lease=HOUR), *meta.apply([Update(late, if_version=late.version)])]

        assert [MessageNotFoundError] * 2 == [type(result) for result in results]
        assert {} == everything(meta)

    @clause("META-29", "META-27")
    def test_a_claim_that_was_renewed_is_settled_by_its_new_version_only(self, meta: MetaBackend) -> None:
        store(meta, "a")
        (claimed,) = claim(meta)
        (held,) = renewed(meta, [claimed])

        with pytest.raises(StateConflictError):
            meta.delete_meta("a", if_version=claimed.version)
        (refused,) = meta.renew([claimed], lease=HOUR)
        assert isinstance(refused, StateConflictError)
        meta.delete_meta("a", if_version=held.version)
        assert {} == everything(meta)

    @clause("META-21", "META-8")
    def test_a_release_gives_back_state_and_delivery(self, meta: MetaBackend) -> None:
        stored = store(meta, "a", state=State.DEFERRED, deliveries=4)
        (claimed,) = claim(meta)

        back = meta.update_meta("a", released(claimed), if_version=claimed.version)

        assert replace(stored, version=3, updated=back.updated) == back
        assert back == meta.get_meta("a")
        assert ["a"] == ids(claim(meta, owner="w2"))

    @clause("META-17", "META-24")
    def test_a_message_that_was_moved_from_a_worker_is_claimed_like_any_other(self, meta: MetaBackend) -> None:
        store(meta, "a")
        (claimed,) = claim(meta, State.INCOMING)
        moved = meta.move_to_state("a", State.ACTIVE, State.DEFERRED)

        assert ("", ZERO_TIME, None, 1) == (
            moved.lease_owner,
            moved.lease_expires,
            moved.claimed_from,
            moved.deliveries,
        )
        (again,) = claim(meta, State.DEFERRED, owner="w2")
        assert (State.DEFERRED, 2, "w2") == (again.claimed_from, again.deliveries, again.lease_owner)
        with pytest.raises(StateConflictError):
            meta.delete_meta("a", if_version=claimed.version)

    # -- races ---------------------------------------------------------------------------------------------------------

    @clause("META-29", "META-24", level=Level.CONCURRENT)
    def test_a_renewal_and_a_takeover_never_both_win(
        self, meta: MetaBackend, clock: Callable[[], datetime], profile: Profile
    ) -> None:
        past = clock() - HOUR
        lost = {"state": State.ACTIVE, "claimed_from": State.INCOMING, "lease_owner": "w", "lease_expires": past}
        for number in range(profile.messages // 5):
            held = store(meta, f"m{number}", **lost)

            def run(racer: int, held: MessageMetadata = held) -> bool:
                if racer == 0:
                    return isinstance(meta.renew([held], lease=HOUR)[0], MessageMetadata)
                return bool(claim(meta))

            assert 1 == sum(result is True for result in race(2, run))

    @clause("META-29", level=Level.CONCURRENT)
    def test_a_settlement_and_a_takeover_never_both_win(
        self, meta: MetaBackend, clock: Callable[[], datetime], profile: Profile
    ) -> None:
        past = clock() - HOUR
        lost = {"state": State.ACTIVE, "claimed_from": State.INCOMING, "lease_owner": "w", "lease_expires": past}
        for number in range(profile.messages // 5):
            held = store(meta, f"m{number}", **lost)

            def run(racer: int, held: MessageMetadata = held) -> bool:
                if racer == 0:
                    return meta.apply([Delete(held.id, if_version=held.version)]) == [None]
                return bool(claim(meta, owner="w2"))

            assert 1 == sum(result is True for result in race(2, run))
