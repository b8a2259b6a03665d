"""What Hypothesis makes messages of."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from retryspool.model import ZERO_TIME, MessageMetadata, State

FAST = settings(
    deadline=None,  # a time limit stands on every test; one on each example only finds busy machines
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # they make backends, a new one each example
)

LETTERS_AND_DIGITS = string.ascii_letters + string.digits
# fmt: off
TRICKY_IDS = (
    *("A", "a", "a.", "a..", "a.json", "a.data", "a.tmp.b", "a.json.tmp.1", "a.lock", "a.A", "a.a", "CON", "con"),
    *("nul", "aux.txt", "COM1", "0", "00", "1e5", "a=b", "a+b", "a@b", "a-b", "a_b", "a.b"),
    *("x" * 200, "x" * 199 + "X", "x" * 199),
)
"""Ids that something confuses: file systems, suffixes, patterns, numbers."""

HOSTILE_IDS = (
    *("", ".", "..", ".a", "-a", "_a", "=a", "@a", "+a", "../a", "a/b", "a\\b", "/a", "a b", " a", "a ", "a\n", "\na"),
    *("a\0", "a:b", "a*", "a?", "%61", "a%2Fb", "a;b", "a'b", 'a"b', "a<b", "a|b", "~a", "a~", "ä", "aä", "ａ", "٣"),
    *("a\u200b", "\ud800", "x" * 201, "x" * 100_000),
)
"""What is no id."""
# fmt: on

message_ids = st.one_of(
    st.sampled_from(TRICKY_IDS),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._=@+-]{0,199}", fullmatch=True),
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)
counts = st.one_of(st.integers(0, 20), st.integers(0, 2**63 - 1))
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.one_of(
    st.just(ZERO_TIME),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.one_of(st.just(UTC), zones)),  # noqa: DTZ001
)


@st.composite
def records(draw: st.DrawFn, message_id: str = "m") -> MessageMetadata:
    """Make a record, with a lease if it's an active one."""
    state = draw(st.sampled_from(State))
    active = state is State.ACTIVE
    return MessageMetadata(
        id=message_id,
        state=state,
        attempts=draw(counts),
        max_attempts=draw(counts),
        next_retry=draw(times),
        created=draw(times),
        updated=draw(times),
        last_error=draw(texts),
        size=draw(counts),
        priority=draw(counts),
        headers=draw(st.dictionaries(texts.filter(bool), texts, max_size=5)),
        retry_policy_name=draw(texts),
        version=draw(counts),
        deliveries=draw(counts),
        lease_owner=draw(st.text(LETTERS_AND_DIGITS, max_size=10)) if active else "",
        lease_expires=draw(times) if active else ZERO_TIME,
        claimed_from=draw(st.none() | st.sampled_from([each for each in State if each is not State.ACTIVE]))
        if active
        else None,
        route=draw(texts),
    )
