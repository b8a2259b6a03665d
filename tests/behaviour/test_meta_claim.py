"""claim, renew, and what a lease is worth: META 5 and the fencing of late workers."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from racing import race

from retryspool import records
from retryspool.errors import InvalidMessageIdError, InvalidOptionError, MessageNotFoundError, StateConflictError
from retryspool.meta import Delete, MetaBackend, Update
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State, utc_now

HOUR = timedelta(hours=1)
WORK = (State.INCOMING, State.DEFERRED)
OTHERS = [State.HOLD, State.BOUNCE, State.ARCHIVED]


def store(meta: MetaBackend, message_id: str, **fields: object) -> MessageMetadata:
    return meta.store_meta(message_id, replace(MessageMetadata(message_id), **fields))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def claim(meta: MetaBackend, *sources: State, limit: int = 100, **options: object) -> list[MessageMetadata]:
    options = {"lease": HOUR, "owner": "w1", **options}
    return meta.claim(sources or WORK, limit=limit, **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def ids(claimed: list[MessageMetadata]) -> list[str]:
    return [record.id for record in claimed]


# -- what a claim writes -----------------------------------------------------------------------------------------------


def test_a_claim_writes_state_owner_lease_and_delivery(meta: MetaBackend) -> None:
    stored = store(meta, "a", state=State.DEFERRED, deliveries=2, attempts=1, headers={"k": "v"}, route="r")
    before = utc_now()

    (claimed,) = claim(meta, owner="host-1:77")

    assert before + HOUR <= claimed.lease_expires <= utc_now() + HOUR
    assert before <= claimed.updated <= utc_now()
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
    assert claimed == meta.get_meta("a")
    assert [claimed] == list(meta.iter_messages(State.ACTIVE))
    assert 0 == meta.list_messages(State.DEFERRED).total


def test_a_claimed_message_goes_to_nobody_else(meta: MetaBackend) -> None:
    store(meta, "a")

    assert ["a"] == ids(claim(meta))
    assert [] == claim(meta, owner="w2")


@pytest.mark.parametrize("source", [State.INCOMING, State.DEFERRED, *OTHERS], ids=str)
def test_only_the_sources_are_claimed_from(meta: MetaBackend, source: State) -> None:
    for state in (State.INCOMING, State.DEFERRED, *OTHERS):
        store(meta, state.label, state=state)

    assert [source.label] == ids(claim(meta, source))


# -- what is due, and in which order -----------------------------------------------------------------------------------


def test_what_is_not_due_is_not_claimed(meta: MetaBackend) -> None:
    store(meta, "never", next_retry=NEVER)
    store(meta, "later", next_retry=utc_now() + HOUR)
    store(meta, "now", next_retry=utc_now())
    store(meta, "unset", next_retry=ZERO_TIME)

    assert ["unset", "now"] == ids(claim(meta))


def test_a_message_is_claimed_once_it_is_due(meta: MetaBackend) -> None:
    due = utc_now() + timedelta(milliseconds=100)
    store(meta, "a", state=State.DEFERRED, next_retry=due)

    while not (claimed := claim(meta)):
        assert utc_now() < due + timedelta(seconds=10)
        threading.Event().wait(0.005)

    assert claimed[0].updated >= due


def test_sources_go_in_their_order(meta: MetaBackend) -> None:
    store(meta, "d", state=State.DEFERRED, priority=0)
    store(meta, "i", state=State.INCOMING, priority=9)
    store(meta, "b", state=State.BOUNCE, priority=5)

    assert ["i", "b", "d"] == ids(claim(meta, State.INCOMING, State.BOUNCE, State.DEFERRED))


def test_within_a_source_priority_goes_before_age(meta: MetaBackend) -> None:
    now = utc_now()
    for number, (priority, age) in enumerate([(5, 1), (1, 1), (5, 3), (1, 2), (0, 0), (100, 9), (5, 2)]):
        store(meta, f"{number}-{priority}-{age}", priority=priority, next_retry=now - age * HOUR)

    assert ["4-0-0", "3-1-2", "1-1-1", "2-5-3", "6-5-2", "0-5-1", "5-100-9"] == ids(claim(meta))


def test_a_limit_takes_the_first_ones(meta: MetaBackend) -> None:
    now = utc_now()
    for age in range(1, 8):
        store(meta, f"{age}", next_retry=now - age * HOUR)

    assert [["7", "6", "5"], ["4", "3", "2"], ["1"], []] == [ids(claim(meta, limit=3)) for _ in range(4)]


def test_a_limit_goes_across_sources(meta: MetaBackend) -> None:
    store(meta, "expired", state=State.ACTIVE, claimed_from=State.INCOMING, lease_expires=utc_now() - HOUR)
    store(meta, "incoming")
    store(meta, "deferred", state=State.DEFERRED)

    assert ["expired", "incoming"] == ids(claim(meta, limit=2))
    assert ["deferred"] == ids(claim(meta, limit=2))


def test_routes_that_are_excluded_are_passed_over(meta: MetaBackend) -> None:
    for number, route in enumerate(["dead", "", "slow", "dead", "fine"]):
        store(meta, f"{number}", route=route, next_retry=utc_now() - HOUR * (9 - number))
    store(meta, "x", route="dead", state=State.ACTIVE, claimed_from=State.INCOMING)

    assert ["1", "4"] == ids(claim(meta, exclude_routes={"dead", "slow", "unheard-of"}, limit=2))
    assert [] == claim(meta, exclude_routes=["dead", "slow"])
    assert ["x", "0", "2", "3"] == ids(claim(meta))


# -- leases ------------------------------------------------------------------------------------------------------------


def test_a_lease_that_has_expired_is_taken_over(meta: MetaBackend) -> None:
    store(meta, "a", state=State.DEFERRED)
    (first,) = claim(meta, lease=timedelta(milliseconds=50))

    while not (second := claim(meta, owner="w2")):
        assert utc_now() < first.lease_expires + timedelta(seconds=10)
        threading.Event().wait(0.005)

    assert second[0].updated >= first.lease_expires
    assert ("w2", 2, State.DEFERRED) == (second[0].lease_owner, second[0].deliveries, second[0].claimed_from)
    assert second == [meta.get_meta("a")]


def test_expired_leases_go_first(meta: MetaBackend) -> None:
    store(meta, "due", priority=0)
    store(meta, "expired", priority=9, state=State.ACTIVE, claimed_from=State.DEFERRED, lease_expires=utc_now())

    assert ["expired", "due"] == ids(claim(meta))


def test_an_expired_lease_is_taken_over_only_by_who_works_on_where_it_was_claimed_from(meta: MetaBackend) -> None:
    store(meta, "a", state=State.ACTIVE, claimed_from=State.BOUNCE, lease_owner="w", lease_expires=utc_now() - HOUR)

    assert [] == claim(meta, State.INCOMING, State.DEFERRED)
    (claimed,) = claim(meta, State.BOUNCE)

    assert State.BOUNCE is claimed.claimed_from


def test_an_active_message_without_a_lease_may_be_claimed_by_anybody_at_once(meta: MetaBackend) -> None:
    store(meta, "a", state=State.ACTIVE, next_retry=NEVER)

    (claimed,) = claim(meta, State.BOUNCE)

    assert (None, "w1", 1) == (claimed.claimed_from, claimed.lease_owner, claimed.deliveries)
    assert [] == claim(meta, State.BOUNCE)


def test_without_sources_only_leases_that_came_from_nowhere_are_taken_over(meta: MetaBackend) -> None:
    store(meta, "a", state=State.ACTIVE)
    store(meta, "b", state=State.ACTIVE, claimed_from=State.INCOMING)
    store(meta, "c")

    assert ["a"] == ids(meta.claim((), limit=9, lease=HOUR, owner="w"))


def test_a_renewal_extends_the_lease(meta: MetaBackend) -> None:
    store(meta, "a")
    claimed = claim(meta, lease=timedelta(minutes=1))
    before = utc_now()

    (renewed,) = meta.renew(claimed, lease=2 * HOUR)

    assert isinstance(renewed, MessageMetadata)
    assert before + 2 * HOUR <= renewed.lease_expires <= utc_now() + 2 * HOUR
    assert replace(claimed[0], version=3, lease_expires=renewed.lease_expires, updated=renewed.updated) == renewed
    assert renewed == meta.get_meta("a")


def test_a_renewed_lease_is_renewed_again(meta: MetaBackend) -> None:
    store(meta, "a")
    held: list[MessageMetadata] = claim(meta)

    for _ in range(3):
        held = [record for record in meta.renew(held, lease=HOUR) if isinstance(record, MessageMetadata)]

    assert [5] == [record.version for record in held]


def test_a_renewal_keeps_the_message_from_others(meta: MetaBackend) -> None:
    store(meta, "a")
    claimed = claim(meta, lease=timedelta(milliseconds=30))
    (renewed,) = meta.renew(claimed, lease=HOUR)
    assert isinstance(renewed, MessageMetadata)

    while utc_now() <= claimed[0].lease_expires:
        threading.Event().wait(0.005)

    assert [] == claim(meta, owner="w2")


def test_a_renewal_answers_for_each_message(meta: MetaBackend) -> None:
    for message_id in "abcd":
        store(meta, message_id)
    claimed = claim(meta)
    meta.delete_meta("b")
    meta.move_to_state("c", State.ACTIVE, State.HOLD)

    results = meta.renew(claimed, lease=HOUR)

    kinds = [MessageMetadata, MessageNotFoundError, StateConflictError, MessageMetadata]
    assert kinds == [type(result) for result in results]
    assert State.HOLD is meta.get_meta("c").state


def test_no_renewal_is_no_error(meta: MetaBackend) -> None:
    assert [] == meta.renew([], lease=HOUR)


def test_a_renewal_with_an_id_that_is_none_renews_nothing(meta: MetaBackend) -> None:
    store(meta, "a")
    claimed = claim(meta)

    with pytest.raises(InvalidMessageIdError):
        meta.renew([*claimed, MessageMetadata("../x")], lease=HOUR)

    assert claimed == [meta.get_meta("a")]


def test_a_late_worker_cannot_touch_a_message_that_was_taken_over(meta: MetaBackend) -> None:
    late = store(meta, "a", state=State.ACTIVE, claimed_from=State.INCOMING, lease_owner="w1", lease_expires=utc_now())
    (taken,) = claim(meta, owner="w2")

    (renewal,) = meta.renew([late], lease=HOUR)
    deletion, deferral = meta.apply(
        [Delete("a", if_version=late.version), Update(replace(late, state=State.DEFERRED), if_version=late.version)]
    )

    assert all(isinstance(refused, StateConflictError) for refused in (renewal, deletion, deferral))
    with pytest.raises(StateConflictError):
        meta.delete_meta("a", if_version=late.version)
    with pytest.raises(StateConflictError):
        meta.update_meta("a", records.released(late), if_version=late.version)
    assert taken == meta.get_meta("a")


def test_a_claim_that_was_renewed_is_settled_by_its_new_version_only(meta: MetaBackend) -> None:
    store(meta, "a")
    (claimed,) = claim(meta)
    (renewed,) = meta.renew([claimed], lease=HOUR)
    assert isinstance(renewed, MessageMetadata)

    with pytest.raises(StateConflictError):
        meta.delete_meta("a", if_version=claimed.version)
    meta.delete_meta("a", if_version=renewed.version)


def test_a_release_gives_back_state_and_delivery(meta: MetaBackend) -> None:
    stored = store(meta, "a", state=State.DEFERRED, deliveries=4)
    (claimed,) = claim(meta)

    released = meta.update_meta("a", records.released(claimed), if_version=claimed.version)

    assert replace(stored, version=3, updated=released.updated) == released
    assert released == meta.get_meta("a")
    assert ["a"] == ids(claim(meta, owner="w2"))


# -- races -------------------------------------------------------------------------------------------------------------


def test_no_message_goes_to_two_claimers(meta: MetaBackend) -> None:
    for number in range(200):
        store(meta, f"m{number}", state=WORK[number % 2], priority=number % 7)

    def work(racer: int) -> list[MessageMetadata]:
        taken: list[MessageMetadata] = []
        while claimed := claim(meta, limit=7, owner=f"w{racer}"):
            assert len(claimed) <= 7
            taken += claimed
        return taken

    results = race(8, work)

    taken = [record for result in results if isinstance(result, list) for record in result]
    assert 8 == sum(isinstance(result, list) for result in results)
    assert {f"m{number}" for number in range(200)} == {record.id for record in taken}
    assert 200 == len(taken)
    assert {record.id: record for record in taken} == {record.id: record for record in meta.iter_messages(State.ACTIVE)}
    assert {1} == {record.deliveries for record in taken}


def test_no_claim_is_empty_while_there_is_a_message_for_it(meta: MetaBackend) -> None:
    for number in range(32):
        store(meta, f"m{number}")

    results = race(32, lambda racer: ids(claim(meta, limit=1, owner=f"w{racer}")))

    assert {f"m{number}" for number in range(32)} == {result[0] for result in results if isinstance(result, list)}


def test_an_expired_lease_goes_to_one_claimer(meta: MetaBackend) -> None:
    for number in range(10):
        store(meta, f"m{number}", state=State.ACTIVE, claimed_from=State.INCOMING, lease_expires=utc_now() - HOUR)

    results = race(16, lambda racer: ids(claim(meta, limit=10, owner=f"w{racer}")))

    taken = [message_id for result in results if isinstance(result, list) for message_id in result]
    assert sorted(f"m{number}" for number in range(10)) == sorted(taken)


def test_a_renewal_and_a_takeover_never_both_win(meta: MetaBackend) -> None:
    for round_number in range(20):
        held = store(meta, f"m{round_number}", state=State.ACTIVE, claimed_from=State.INCOMING, lease_expires=utc_now())

        def run(racer: int, held: MessageMetadata = held) -> bool:
            if racer == 0:
                return isinstance(meta.renew([held], lease=HOUR)[0], MessageMetadata)
            return bool(claim(meta))

        assert 1 == sum(result is True for result in race(2, run))


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": -1},
        {"lease": timedelta(0)},
        {"lease": -HOUR},
        {"lease": timedelta.max},
        {"owner": ""},
        {"owner": "two words"},
        {"owner": "ä"},
        {"owner": "a\n"},
        {"owner": "x" * 65},
        {"sources": (State.INCOMING, State.ACTIVE)},
    ],
    ids=str,
)
def test_a_claim_out_of_range_is_refused_and_claims_nothing(meta: MetaBackend, wrong: dict[str, object]) -> None:
    stored = store(meta, "a")
    options = {"sources": WORK, "limit": 1, "lease": HOUR, "owner": "w", **wrong}

    with pytest.raises(InvalidOptionError):
        meta.claim(options.pop("sources"), **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    assert stored == meta.get_meta("a")


def test_a_renewal_for_no_time_is_refused(meta: MetaBackend) -> None:
    store(meta, "a")
    claimed = claim(meta)

    with pytest.raises(InvalidOptionError, match="lease"):
        meta.renew(claimed, lease=timedelta(0))


@pytest.mark.parametrize("owner", ["x" * 64, "host-1.example:4711/018f@a_b=c+d"])
def test_an_owner_may_be_as_long_as_64_characters(meta: MetaBackend, owner: str) -> None:
    store(meta, "a")

    assert [owner] == [record.lease_owner for record in claim(meta, owner=owner)]
