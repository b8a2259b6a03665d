"""What Hypothesis makes messages of: for properties that hold for every id, every record, every payload."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["HOSTILE_IDS", "TRICKY_IDS", "counts", "message_ids", "records", "texts", "times"]

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
"""Every id that there may be."""

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
"""What a text of a record may be: anything but NUL and surrogates."""

counts = st.one_of(st.integers(0, 20), st.integers(0, 2**63 - 1), st.sampled_from([2**31, 2**53 + 1, 2**63 - 1]))
"""What a number of a record may be; those that a signed or a floating-point one can't hold come often."""

_zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.one_of(
    st.sampled_from([ZERO_TIME, NEVER]),
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.one_of(st.just(UTC), _zones)),  # noqa: DTZ001 -- gets its zone there
)
"""What a time of a record may be: of any zone, to the microsecond."""

_owners = st.text(string.ascii_letters + string.digits + "._=@+:/-", max_size=64)
_origins = st.none() | st.sampled_from([state for state in State if state is not State.ACTIVE])


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
        lease_owner=draw(_owners) if active else "",
        lease_expires=draw(times) if active else ZERO_TIME,
        claimed_from=draw(_origins) if active else None,
        route=draw(texts),
        checksum=draw(st.sampled_from(["", "00000000", "deadbeef"])),
    )
