"""Records as they are stored: a hash of two fields.

`head` is what the scripts read: twelve words, in the order of `WORDS`. `body` is a JSON object of the rest, without
what is empty. Times are 15 hexadecimal digits, ten of seconds since the first instant of year 1 and five of
microseconds: exact, and sorted as texts.
"""

from __future__ import annotations

import json
import re
import string
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import quote, unquote_to_bytes

from retryspool.errors import CorruptRecordError
from retryspool.model import ZERO_TIME, MessageMetadata, State

__all__ = ["WORDS", "decode", "encode", "found_in", "quoted", "state_text", "time_of", "time_text"]

WORDS = "version state origin priority attempts deliveries next_retry lease_expires created updated owner route"
"""The words of a head, as the scripts name them; `origin` is the number of `claimed_from`, or `-`."""

_HEAD = re.compile(
    rb"(\d{1,19}) ([0-5]) ([0-5-]) (\d{1,19}) (\d{1,19}) (\d{1,19})"
    rb" ([\da-f]{15}) ([\da-f]{15}) ([\da-f]{15}) ([\da-f]{15}) ([^ ]*) ([^ ]*)"
)
_STATES = {str(state.value).encode(): state for state in State}
_ORIGINS: dict[bytes, State | None] = {b"-": None, **_STATES}
_TEXTS = {state: str(state.value) for state in State}
_UNSET_TEXT = "0" * 15
_UNSET = _UNSET_TEXT.encode()
_MAX_INT = 2**63 - 1
_SAFE = "".join(set(string.punctuation) - {"%"})
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def state_text(state: State | None) -> str:
    """Return the digit that a state is stored as; `-` for none."""
    return "-" if state is None else _TEXTS[state]


def quoted(text: str) -> str:
    """Return a text as one word of a head."""
    return quote(text, safe=_SAFE) if text else ""


def _unquoted(word: bytes) -> str:
    return (unquote_to_bytes(word) if b"%" in word else word).decode()


def time_text(time: datetime) -> str:
    """Return an aware time as 15 digits."""
    if time == ZERO_TIME:
        return _UNSET_TEXT
    since = time - ZERO_TIME
    return f"{since.days * 86400 + since.seconds:010x}{since.microseconds:05x}"


def time_of(digits: bytes) -> datetime:
    """Return the time that 15 digits stand for.

    :raises OverflowError: it's after the year 9999
    """
    if digits == _UNSET:
        return ZERO_TIME
    return ZERO_TIME + timedelta(0, int(digits[:10], 16), int(digits[10:], 16))


def encode(record: MessageMetadata) -> tuple[str, bytes]:
    """Return a record's head and body. The script that stores it sets `version`, `updated` and, if unset, `created`."""
    m = record
    head = (
        f"{m.version} {_TEXTS[m.state]} {state_text(m.claimed_from)} {m.priority} {m.attempts} {m.deliveries}"
        f" {time_text(m.next_retry)} {time_text(m.lease_expires)} {time_text(m.created)} {time_text(m.updated)}"
        f" {quoted(m.lease_owner)} {quoted(m.route)}"
    )
    body: dict[str, object] = {"max_attempts": m.max_attempts}
    if m.size:
        body["size"] = m.size
    if m.checksum:
        body["checksum"] = m.checksum
    if m.retry_policy_name:
        body["retry_policy_name"] = m.retry_policy_name
    if m.headers:
        body["headers"] = dict(m.headers)
    if m.last_error:
        body["last_error"] = m.last_error
    return head, _dumps(body).encode()


def found_in(head: bytes) -> tuple[State, int]:
    """Return the state and the version that a head says."""
    version, state, _ = head.split(b" ", 2)
    return _STATES[state], int(version)


def decode(message_id: str, head: bytes, body: bytes) -> MessageMetadata:
    """Read a record.

    :raises CorruptRecordError: it isn't one
    """
    match = _HEAD.fullmatch(head)
    if match is None:
        raise _corrupt(message_id, f"its head is {head[:80]!r}, expected the words {WORDS!r}")
    version, state, origin, priority, attempts, deliveries, *times, owner, route = match.groups()
    rest = _Body(message_id, body)
    try:
        next_retry, lease_expires, created, updated = map(time_of, times)
        return MessageMetadata(
            id=message_id,
            state=_STATES[state],
            attempts=int(attempts),
            max_attempts=rest.number("max_attempts"),
            next_retry=next_retry,
            created=created,
            updated=updated,
            last_error=rest.text("last_error"),
            size=rest.number("size"),
            priority=int(priority),
            headers=rest.headers(),
            retry_policy_name=rest.text("retry_policy_name"),
            version=int(version),
            deliveries=int(deliveries),
            lease_owner=_unquoted(owner),
            lease_expires=lease_expires,
            claimed_from=_ORIGINS[origin],
            route=_unquoted(route),
            checksum=rest.text("checksum"),
        )
    except OverflowError:
        raise _corrupt(message_id, f"its head is {head[:160]!r}, with a time after the year 9999") from None
    except UnicodeDecodeError:
        raise _corrupt(message_id, f"its head is {head[:400]!r}, with a text that isn't UTF-8") from None


class _Body:
    """The fields of a body, by type; one that's missing is empty, one of another type is damage."""

    __slots__ = ("_fields", "_id")

    def __init__(self, message_id: str, body: bytes) -> None:
        self._id = message_id
        try:
            fields: object = json.loads(body.decode())
        except (ValueError, RecursionError) as error:
            raise _corrupt(message_id, f"its body isn't JSON: {error}") from None
        if not isinstance(fields, dict):
            raise _corrupt(message_id, "its body isn't a JSON object")
        self._fields = cast("dict[str, Any]", fields)

    def number(self, name: str) -> int:
        value = self._fields.get(name, 0)
        if type(value) is int and 0 <= value <= _MAX_INT:
            return value
        raise self._wrong(name, "a whole number of at least 0 and 63 bits")

    def text(self, name: str) -> str:
        value = self._fields.get(name, "")
        if type(value) is str:
            return value
        raise self._wrong(name, "a text")

    def headers(self) -> dict[str, str]:
        value = self._fields.get("headers")
        if value is None:
            return {}
        if type(value) is dict:
            headers = cast("dict[str, Any]", value)
            if all(type(text) is str for text in headers.values()):
                return headers
        raise self._wrong("headers", "an object of texts")

    def _wrong(self, name: str, expected: str) -> CorruptRecordError:
        return _corrupt(self._id, f"{name} is {self._fields[name]!r:.60}, expected {expected}")


def _corrupt(message_id: str, what: str) -> CorruptRecordError:
    return CorruptRecordError(f"the record of message {message_id!r} can't be read: {what}")
