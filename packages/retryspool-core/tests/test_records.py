"""The rules by which each write changes a record; what they promise of stores is in the conformance suite."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import FAST, records

from retryspool.errors import InvalidMetadataError, InvalidOptionError, StateConflictError
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State, utc_now
from retryspool.records import (
    check_version,
    claimed,
    created,
    due_at,
    is_claimable,
    moved,
    released,
    renewed,
    updated,
    validate_lease,
    validate_metadata,
    validate_owner,
    validate_record,
)

NOW = utc_now()
HOUR = timedelta(hours=1)


def changed(before: MessageMetadata, after: MessageMetadata) -> set[str]:
    return {each.name for each in fields(before) if getattr(before, each.name) != getattr(after, each.name)}


@FAST
@given(metadata=records())
def test_what_is_valid_is_returned_as_it_is(metadata: MessageMetadata) -> None:
    assert metadata is validate_metadata(metadata) is validate_record("m", metadata)


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        *(
            (name, -1, f"{name} is -1; it must be an integer between 0 and")
            for name in ("attempts", "size", "priority")
        ),
        *((name, 2**63, f"{name} is 9223372036854775808") for name in ("max_attempts", "version", "deliveries")),
        ("priority", 1.5, "priority is 1.5; it must be an integer"),
        ("next_retry", datetime(2024, 1, 1), "next_retry has no time zone; use an aware datetime"),  # noqa: DTZ001
        ("created", NEVER.replace(tzinfo=timezone(-HOUR)), "outside the years 1 to 9999"),
        ("lease_expires", ZERO_TIME.replace(tzinfo=timezone(HOUR)), "outside the years 1 to 9999"),
        ("last_error", "a\0b", "last_error holds a NUL or a lone surrogate"),
        ("route", "ä\udc80", "route holds a NUL or a lone surrogate"),
        ("retry_policy_name", None, "retry_policy_name is of type NoneType; it must be a str"),
        ("headers", {"": "x"}, "a header has an empty name"),
        ("headers", {"k": 7}, "header 'k' is of type int; it must be a str"),
        ("headers", {"k\0": ""}, "a header's name holds a NUL"),
    ],
)
def test_a_wrong_value_is_named(name: str, wrong: object, says: str) -> None:
    metadata = replace(MessageMetadata("a1"), **{name: wrong})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    with pytest.raises(InvalidMetadataError, match=f"^message 'a1': .*{says}"):
        validate_metadata(metadata)


def test_a_record_of_another_message_is_refused() -> None:
    with pytest.raises(InvalidMetadataError, match="message 'a': the record is that of 'b'"):
        validate_record("a", MessageMetadata("b"))


@FAST
@given(metadata=records())
def test_a_store_sets_version_and_times_alone(metadata: MessageMetadata) -> None:
    stored = created(metadata, NOW)

    assert (1, NOW) == (stored.version, stored.updated)
    assert stored.created == (NOW if metadata.created == ZERO_TIME else metadata.created)
    assert {"version", "updated", "created"} >= changed(metadata, stored)


@FAST
@given(stored=records(), metadata=records())
def test_an_update_counts_on_from_the_stored_version(stored: MessageMetadata, metadata: MessageMetadata) -> None:
    after = updated(stored, metadata, NOW)

    assert (stored.version + 1, NOW) == (after.version, after.updated)
    assert after.created == (stored.created if metadata.created == ZERO_TIME else metadata.created)
    assert {"version", "updated", "created"} >= changed(metadata, after)


@pytest.mark.parametrize("if_version", [0, 2, 4])
def test_another_version_is_a_conflict(if_version: int) -> None:
    stored = MessageMetadata("a", version=3, state=State.HOLD)

    check_version(stored, None)
    check_version(stored, 3)
    with pytest.raises(StateConflictError, match=f"version 3, expected {if_version}"):
        check_version(stored, if_version)
    with pytest.raises(StateConflictError):
        updated(stored, stored, NOW, if_version)


@FAST
@given(stored=records(), to=st.sampled_from(State))
def test_a_move_ends_the_lease_and_keeps_the_rest(stored: MessageMetadata, to: State) -> None:
    after = moved(stored, stored.state, to, NOW)

    if to is stored.state:
        assert stored is after
    else:
        assert (to, NOW, stored.version + 1) == (after.state, after.updated, after.version)
        assert ("", ZERO_TIME, None) == (after.lease_owner, after.lease_expires, after.claimed_from)
        expected = {"state", "updated", "version", "lease_owner", "lease_expires", "claimed_from"}
        assert expected >= changed(stored, after)


def test_an_active_message_is_due_when_its_lease_expires_and_others_at_their_next_retry() -> None:
    record = MessageMetadata("a", next_retry=NOW + HOUR, lease_expires=NOW)

    for state in State:
        assert (state is State.ACTIVE) is is_claimable(replace(record, state=state), NOW)
    assert NOW == due_at(replace(record, state=State.ACTIVE))
    assert not is_claimable(replace(record, state=State.ACTIVE), NOW - timedelta(microseconds=1))


@FAST
@given(stored=records())
def test_a_release_undoes_a_claim(stored: MessageMetadata) -> None:
    claim = claimed(stored, owner="w", lease=HOUR, now=NOW)

    assert (State.ACTIVE, "w", NOW + HOUR, stored.deliveries + 1, stored.version + 1) == (
        claim.state,
        claim.lease_owner,
        claim.lease_expires,
        claim.deliveries,
        claim.version,
    )
    back = released(claim)
    if stored.state is not State.ACTIVE:
        assert {"version", "updated"} >= changed(stored, back)
    else:
        assert back.state is (stored.claimed_from or State.INCOMING)


def test_a_release_never_counts_below_none() -> None:
    assert 0 == released(MessageMetadata("a", state=State.ACTIVE)).deliveries


def test_only_the_claim_itself_is_renewed() -> None:
    claim = claimed(MessageMetadata("a", version=1), owner="w", lease=HOUR, now=NOW)

    assert (NOW + 2 * HOUR, 3) == (
        (after := renewed(claim, claim, lease=2 * HOUR, now=NOW)).lease_expires,
        after.version,
    )
    with pytest.raises(StateConflictError, match="version 3, expected 2"):
        renewed(replace(claim, version=3), claim, lease=HOUR, now=NOW)
    with pytest.raises(StateConflictError, match="is 'hold', expected 'active'"):
        renewed(replace(claim, state=State.HOLD), claim, lease=HOUR, now=NOW)


@pytest.mark.parametrize("lease", [timedelta(0), -HOUR, timedelta(days=366), timedelta.max, timedelta.min], ids=str)
def test_a_lease_is_longer_than_nothing_and_ends(lease: timedelta) -> None:
    with pytest.raises(InvalidOptionError, match=r"lease is .*; it must be longer than 0 and at most 365 days"):
        validate_lease(lease)


@pytest.mark.parametrize("lease", [timedelta(microseconds=1), timedelta(days=365)], ids=str)
def test_the_shortest_and_the_longest_lease_are_leases(lease: timedelta) -> None:
    assert lease == validate_lease(lease)


@pytest.mark.parametrize("owner", ["", "a b", "ä", "a\n", "x" * 65, "a\0"], ids=repr)
def test_an_owner_is_plain_text(owner: str) -> None:
    with pytest.raises(InvalidOptionError, match="owner is"):
        validate_owner(owner)
