"""Storing, reading, replacing and deleting a record: META 1, 2, 3 and what the interface says of each method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from backends import NewMeta
from hypothesis import given
from hypothesis import strategies as st
from strategies import FAST, HOSTILE_IDS, TRICKY_IDS, message_ids, records

from retryspool.errors import (
    InvalidMessageIdError,
    InvalidMetadataError,
    MessageExistsError,
    MessageNotFoundError,
    StateConflictError,
)
from retryspool.meta import MetaBackend
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State, utc_now

CALLS_WITH_AN_ID: dict[str, Callable[[MetaBackend, Any], object]] = {
    "store": lambda meta, it: meta.store_meta(it, MessageMetadata("a")),
    "store a record of": lambda meta, it: meta.store_meta("a", MessageMetadata(it)),
    "get": lambda meta, it: meta.get_meta(it),
    "update": lambda meta, it: meta.update_meta(it, MessageMetadata("a")),
    "delete": lambda meta, it: meta.delete_meta(it),
    "move": lambda meta, it: meta.move_to_state(it, State.INCOMING, State.HOLD),
}


def everything(meta: MetaBackend) -> dict[str, MessageMetadata]:
    return {record.id: record for state in State for record in meta.iter_messages(state)}


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS_WITH_AN_ID)
def test_what_is_no_id_is_refused_and_changes_nothing(meta: MetaBackend, call: str) -> None:
    for hostile in (*HOSTILE_IDS, None, 7, b"a"):
        with pytest.raises((InvalidMessageIdError, InvalidMetadataError)) as refused:
            CALLS_WITH_AN_ID[call](meta, hostile)
        assert isinstance(refused.value, InvalidMessageIdError) or call == "store a record of"
    assert {} == everything(meta)


@FAST
@given(text=st.text(max_size=30))
def test_any_text_is_stored_as_it_is_or_refused(new_meta: NewMeta, text: str) -> None:
    meta = new_meta()
    try:
        meta.store_meta(text, MessageMetadata(text))
    except InvalidMessageIdError:
        assert {} == everything(meta)
    else:
        assert [text] == list(everything(meta))


def test_ids_that_look_alike_are_different_messages(meta: MetaBackend) -> None:
    for number, message_id in enumerate(TRICKY_IDS):
        meta.store_meta(message_id, MessageMetadata(message_id, size=number))

    assert list(range(len(TRICKY_IDS))) == [meta.get_meta(message_id).size for message_id in TRICKY_IDS]
    assert set(TRICKY_IDS) == set(everything(meta))

    for message_id in TRICKY_IDS[::2]:
        meta.delete_meta(message_id)
    assert set(TRICKY_IDS[1::2]) == set(everything(meta))


@FAST
@given(ids=st.sets(message_ids, min_size=1, max_size=8))
def test_every_id_is_one_message(new_meta: NewMeta, ids: set[str]) -> None:
    meta = new_meta()
    for message_id in ids:
        meta.store_meta(message_id, MessageMetadata(message_id, last_error=message_id))

    assert ids == set(everything(meta))
    assert ids == set(meta.list_messages(State.INCOMING).message_ids)
    assert all(message_id == meta.get_meta(message_id).last_error for message_id in ids)


# -- store and get -----------------------------------------------------------------------------------------------------


@FAST
@given(metadata=records())
def test_what_is_stored_is_what_is_read(new_meta: NewMeta, metadata: MessageMetadata) -> None:
    meta = new_meta()
    before = utc_now()

    stored = meta.store_meta("m", metadata)

    assert before <= stored.updated <= utc_now()
    assert metadata.created == stored.created if metadata.created != ZERO_TIME else stored.created >= before
    assert replace(metadata, version=1, created=stored.created, updated=stored.updated) == stored
    assert stored == meta.get_meta("m")
    assert {"m": stored} == everything(meta)


@FAST
@given(metadata=records())
def test_times_come_back_in_utc(new_meta: NewMeta, metadata: MessageMetadata) -> None:
    meta = new_meta()

    stored = meta.store_meta("m", metadata)

    for record in (stored, meta.get_meta("m"), *meta.iter_messages(metadata.state)):
        for time in (record.created, record.updated, record.next_retry, record.lease_expires):
            assert timedelta(0) == time.utcoffset()


def test_times_are_kept_to_the_microsecond(meta: MetaBackend) -> None:
    nepal = timezone(timedelta(hours=5, minutes=45))
    created = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=nepal)
    next_retry = datetime(2031, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    meta.store_meta("a", MessageMetadata("a", created=created, next_retry=next_retry))

    read = meta.get_meta("a")

    assert (created, next_retry) == (read.created, read.next_retry)
    assert datetime(2024, 2, 29, 18, 14, 59, 999_999, tzinfo=UTC).timetuple() == read.created.timetuple()


@pytest.mark.parametrize("time", [ZERO_TIME, NEVER], ids=["zero", "never"])
def test_the_first_and_the_last_time_are_kept(meta: MetaBackend, time: datetime) -> None:
    meta.store_meta("a", MessageMetadata("a", next_retry=time))

    assert time == meta.get_meta("a").next_retry


@pytest.mark.parametrize("state", State, ids=str)
def test_a_message_is_stored_in_any_state(meta: MetaBackend, state: State) -> None:
    meta.store_meta("a", MessageMetadata("a", state=state))

    assert state is meta.get_meta("a").state
    assert {state: ("a",)} == {s: r.message_ids for s in State if (r := meta.list_messages(s)).total}


@pytest.mark.parametrize("state", State, ids=str)
def test_a_second_store_is_refused_and_touches_nothing(meta: MetaBackend, state: State) -> None:
    first = meta.store_meta("a", MessageMetadata("a", headers={"n": "1"}))

    with pytest.raises(MessageExistsError, match="'a'"):
        meta.store_meta("a", MessageMetadata("a", state=state, headers={"n": "2"}))

    assert {"a": first} == everything(meta)


def test_a_message_that_was_deleted_can_be_stored_again(meta: MetaBackend) -> None:
    meta.store_meta("a", MessageMetadata("a", state=State.HOLD))
    meta.delete_meta("a")

    again = meta.store_meta("a", MessageMetadata("a"))

    assert 1 == again.version
    assert {"a": again} == everything(meta)


INVALID = {
    "negative attempts": MessageMetadata("a", attempts=-1),
    "size of 64 bits": MessageMetadata("a", size=2**63),
    "priority that is text": MessageMetadata("a", priority="5"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    "naive time": MessageMetadata("a", next_retry=datetime(2024, 1, 1)),  # noqa: DTZ001
    "time before year 1 in UTC": MessageMetadata(
        "a", created=datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))
    ),
    "time after year 9999 in UTC": MessageMetadata("a", created=NEVER.replace(tzinfo=timezone(-timedelta(hours=1)))),
    "NUL": MessageMetadata("a", last_error="\0"),
    "lone surrogate": MessageMetadata("a", route="\ud800"),
    "header without a name": MessageMetadata("a", headers={"": "x"}),
    "header with a NUL": MessageMetadata("a", headers={"x": "\0"}),
    "header of bytes": MessageMetadata("a", headers={"x": b"y"}),  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    "another id": MessageMetadata("b"),
}


@pytest.mark.parametrize("case", INVALID)
def test_a_record_that_not_every_backend_could_store_is_refused(meta: MetaBackend, case: str) -> None:
    with pytest.raises(InvalidMetadataError):
        meta.store_meta("a", INVALID[case])
    assert {} == everything(meta)

    first = meta.store_meta("a", MessageMetadata("a"))
    with pytest.raises(InvalidMetadataError):
        meta.update_meta("a", INVALID[case])
    assert {"a": first} == everything(meta)


# -- update ------------------------------------------------------------------------------------------------------------


@FAST
@given(first=records(), second=records())
def test_an_update_replaces_all_of_a_record(new_meta: NewMeta, first: MessageMetadata, second: MessageMetadata) -> None:
    meta = new_meta()
    stored = meta.store_meta("m", first)

    updated = meta.update_meta("m", second)

    created = stored.created if second.created == ZERO_TIME else second.created
    assert replace(second, version=2, created=created, updated=updated.updated) == updated
    assert stored.updated <= updated.updated
    assert timedelta(0) == updated.next_retry.utcoffset() == updated.lease_expires.utcoffset()
    assert {"m": updated} == everything(meta)


@pytest.mark.parametrize("to", State, ids=str)
@pytest.mark.parametrize("origin", State, ids=str)
def test_an_update_relocates_a_message(meta: MetaBackend, origin: State, to: State) -> None:
    meta.store_meta("a", MessageMetadata("a", state=origin))

    meta.update_meta("a", MessageMetadata("a", state=to))

    assert {to: ("a",)} == {state: r.message_ids for state in State if (r := meta.list_messages(state)).total}
    assert {to: ["a"]} == {s: ids for s in State if (ids := [r.id for r in meta.iter_messages(s)])}


def test_every_write_raises_the_version(meta: MetaBackend) -> None:
    written = [
        meta.store_meta("a", MessageMetadata("a", version=77)),
        meta.update_meta("a", MessageMetadata("a")),
        meta.update_meta("a", MessageMetadata("a", version=5), if_version=2),
        meta.move_to_state("a", State.INCOMING, State.HOLD),
        meta.update_meta("a", MessageMetadata("a")),
    ]

    assert [1, 2, 3, 4, 5] == [record.version for record in written]


def test_an_update_creates_nothing(meta: MetaBackend) -> None:
    for if_version in (None, 0, 1):
        with pytest.raises(MessageNotFoundError, match="'a'"):
            meta.update_meta("a", MessageMetadata("a"), if_version=if_version)
    assert {} == everything(meta)


@pytest.mark.parametrize("stale", [0, 1, 3])
def test_an_update_of_another_version_changes_nothing(meta: MetaBackend, stale: int) -> None:
    meta.store_meta("a", MessageMetadata("a"))
    second = meta.update_meta("a", MessageMetadata("a", state=State.HOLD))

    with pytest.raises(StateConflictError) as conflict:
        meta.update_meta("a", MessageMetadata("a", size=9), if_version=stale)

    assert (State.HOLD, 2, stale) == (
        conflict.value.found,
        conflict.value.found_version,
        conflict.value.expected_version,
    )
    assert {"a": second} == everything(meta)


# -- delete ------------------------------------------------------------------------------------------------------------


def test_a_deleted_message_is_gone(meta: MetaBackend) -> None:
    meta.store_meta("a", MessageMetadata("a"))
    kept = meta.store_meta("b", MessageMetadata("b"))

    meta.delete_meta("a")

    for missing in (lambda: meta.get_meta("a"), lambda: meta.delete_meta("a")):
        with pytest.raises(MessageNotFoundError, match="'a'"):
            missing()
    assert {"b": kept} == everything(meta)


def test_a_delete_of_another_version_changes_nothing(meta: MetaBackend) -> None:
    first = meta.store_meta("a", MessageMetadata("a"))

    with pytest.raises(StateConflictError):
        meta.delete_meta("a", if_version=2)
    assert {"a": first} == everything(meta)

    meta.delete_meta("a", if_version=1)
    assert {} == everything(meta)


def test_what_is_missing_is_a_key_error_that_names_it(meta: MetaBackend) -> None:
    with pytest.raises(KeyError) as missing:
        meta.get_meta("nobody")
    assert "message 'nobody' does not exist" == str(missing.value)
