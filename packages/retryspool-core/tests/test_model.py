"""States and records as values."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from retryspool.model import NEVER, ZERO_TIME, Finding, MessageMetadata, Severity, State, utc_now


def test_states_have_the_numbers_of_the_go_system() -> None:
    names = ["incoming", "active", "deferred", "hold", "bounce", "archived"]

    assert names == [State(number).label for number in range(6)]


@pytest.mark.parametrize("state", State, ids=str)
def test_a_state_is_found_by_its_label(state: State) -> None:
    assert state is State.from_label(state.label) is State.from_label(state.label.upper())
    assert state.label == str(state) == f"{state}"


def test_an_unknown_label_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="'gone' is not a state; there are incoming, active, deferred, hold, bounce"):
        State.from_label("gone")


def test_a_record_needs_an_id_alone() -> None:
    record = MessageMetadata("a")

    assert (State.INCOMING, 0, 10, 5, {}, 0) == (
        record.state,
        record.attempts,
        record.max_attempts,
        record.priority,
        record.headers,
        record.version,
    )
    assert {ZERO_TIME} == {record.created, record.updated, record.next_retry, record.lease_expires}


def test_a_record_cannot_be_changed() -> None:
    record = MessageMetadata("a")

    with pytest.raises(dataclasses.FrozenInstanceError):
        record.state = State.HOLD  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises((AttributeError, TypeError)):
        record.colour = "red"  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def test_records_do_not_share_their_headers() -> None:
    assert MessageMetadata("a").headers is not MessageMetadata("b").headers


def test_a_record_can_be_pickled_copied_and_taken_apart() -> None:
    record = MessageMetadata("a", headers={"k": "v"}, claimed_from=State.BOUNCE, created=utc_now())

    assert record == pickle.loads(pickle.dumps(record)) == copy.deepcopy(record)
    assert record == MessageMetadata(**dataclasses.asdict(record))


def test_a_time_that_was_never_set_is_before_all_others_and_never_after() -> None:
    assert ZERO_TIME < datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC) < utc_now() < NEVER


def test_now_is_aware_and_in_utc() -> None:
    assert timedelta(0) == utc_now().utcoffset()


def test_a_finding_is_of_a_message_or_of_none() -> None:
    assert Finding(Severity.ERROR, "a", "b").message_id is None
