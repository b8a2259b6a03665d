"""Records as they lie in Redis: what is written is read back, and nothing but a record is read as one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retryspool.errors import CorruptRecordError
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State
from retryspool_redis_meta.codec import decode, encode, time_of, time_text

FULL = MessageMetadata(
    "a",
    state=State.ACTIVE,
    attempts=2,
    max_attempts=2**63 - 1,
    next_retry=NEVER,
    created=datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC),
    updated=datetime(2024, 2, 29, 12, 0, 0, 123457, tzinfo=UTC),
    last_error="550 no such user\nor it moved",
    size=2**63 - 1,
    priority=2**63 - 1,
    headers={"Betreff": "Grüße 😀", "leer": ""},
    retry_policy_name="slow",
    version=7,
    deliveries=2**63 - 1,
    lease_owner="host one/2 %20",
    lease_expires=ZERO_TIME,
    claimed_from=State.DEFERRED,
    route="zürich.example 100%",
    checksum="0badf00d",
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
times = st.datetimes(timezones=st.just(UTC))
numbers = st.integers(0, 2**63 - 1)
records = st.builds(
    MessageMetadata,
    id=st.just("a"),
    state=st.sampled_from(State),
    attempts=numbers,
    max_attempts=numbers,
    next_retry=times,
    created=times,
    updated=times,
    last_error=texts,
    size=numbers,
    priority=numbers,
    headers=st.dictionaries(texts.filter(bool), texts, max_size=3),
    retry_policy_name=texts,
    version=numbers,
    deliveries=numbers,
    lease_owner=texts,
    lease_expires=times,
    claimed_from=st.none() | st.sampled_from(State),
    route=texts,
    checksum=texts,
)


@given(records)
def test_every_record_is_read_back_as_it_was(record: MessageMetadata) -> None:
    head, body = encode(record)

    assert record == decode("a", head.encode(), body)
    assert 12 == len(head.split(" "))


@given(times, times)
def test_times_are_exact_and_sort_as_texts(one: datetime, other: datetime) -> None:
    assert (one, other) == (time_of(time_text(one).encode()), time_of(time_text(other).encode()))
    assert (one < other) == (time_text(one) < time_text(other))


def test_the_first_and_the_last_instant_are_what_the_scripts_take_them_for() -> None:
    assert ("000000000000000", "497786387ff423f") == (time_text(ZERO_TIME), time_text(NEVER))


def test_the_format_is_as_it_was_released() -> None:
    """Every change of these texts is a new format, with a migration."""
    head, body = encode(FULL)

    assert (
        "7 1 2 9223372036854775807 2 9223372036854775807"
        " 497786387ff423f 000000000000000 0edd7268c01e240 0edd7268c01e241"
        " host%20one/2%20%2520 z%C3%BCrich.example%20100%25"
    ) == head
    assert (
        '{"max_attempts":9223372036854775807,"size":9223372036854775807,"checksum":"0badf00d",'
        '"retry_policy_name":"slow","headers":{"Betreff":"Grüße 😀","leer":""},'
        '"last_error":"550 no such user\\nor it moved"}'
    ).encode() == body
    assert '{"max_attempts":10}' == encode(MessageMetadata("a"))[1].decode()


HEAD, BODY = (text.encode() if isinstance(text, str) else text for text in encode(FULL))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        HEAD[:-30],
        HEAD + b" x",
        b" " + HEAD,
        HEAD.replace(b"7 1 2", b"7 6 2"),
        HEAD.replace(b"7 1 2", b"-7 1 2"),
        HEAD.replace(b"7 1 2", b"7 1 x"),
        HEAD.replace(b"497786387ff423f", b"fffffffffffffff"),
        HEAD.replace(b"497786387ff423f", b"49778638"),
        HEAD.replace(b"z%C3%BC", b"z%FF%BC"),
        HEAD.replace(b"7 1 2", b"\xff 1 2"),
    ],
)
def test_a_head_that_is_none_is_damage(head: bytes) -> None:
    with pytest.raises(CorruptRecordError, match="'a'"):
        decode("a", head, BODY)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"size":-1}',
        b'{"size":1.5}',
        b'{"size":true}',
        b'{"size":9223372036854775808}',
        b'{"headers":[]}',
        b'{"headers":{"a":1}}',
        b'{"last_error":1}',
        b'{"checksum":null}',
    ],
)
def test_a_body_that_is_none_is_damage(body: bytes) -> None:
    with pytest.raises(CorruptRecordError, match="'a'"):
        decode("a", HEAD, body)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_nothing_but_damage_comes_of_anything(head: bytes, body: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        decode("a", head, body)


@given(st.data())
def test_a_flipped_bit_gives_another_record_or_damage_and_no_other_error(data: st.DataObject) -> None:
    raw = bytearray(HEAD + b"\n" + BODY)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    head, _, body = bytes(raw).partition(b"\n")

    try:
        read = decode("a", head, body)
    except CorruptRecordError:
        return
    again, rest = encode(read)
    assert read == decode("a", again.encode(), rest)


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    east = datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))

    assert time_text(datetime(2024, 1, 1, tzinfo=UTC)) == time_text(east)
