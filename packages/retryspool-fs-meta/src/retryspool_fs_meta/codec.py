"""Records as the Go system writes them: JSON, one field a line, fields that are unknown kept.

Our own fields (`Version`, `Deliveries`, `LeaseOwner`, `LeaseExpires`, `ClaimedFrom`, `Route`, `Checksum`) come after
its own. Times are RFC 3339; a time that a write doesn't change keeps its text, with all its digits and its zone.

The last one, `RecordChecksum`, is the CRC-32 of all that stands before it. JSON alone would still read as a record what
has a digit or a letter changed. One without it, of the Go system or mended by hand, is taken as it is.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, cast

from retryspool.errors import CorruptRecordError
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["Fields", "decode", "encode", "parse_time"]

Fields = Mapping[str, object]
"""A record's JSON object as it was read."""

_STATES = {state.value: state for state in State}
_GO_FIELDS = "ID State Attempts MaxAttempts NextRetry Created Updated LastError Size Priority Headers RetryPolicyName"
_OUR_FIELDS = "Version Deliveries LeaseOwner LeaseExpires ClaimedFrom Route Checksum RecordChecksum"
_KNOWN_FIELDS = frozenset(f"{_GO_FIELDS} {_OUR_FIELDS}".split())

_MAX_INT = 2**63 - 1
_SEAL = b',\n  "RecordChecksum": "'
"""What the checksum comes after. No text of a record holds it: a line break in one is escaped."""
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
"""What NULs and surrogates are written as; they can't stand in JSON any other way."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TEXTS = ("LastError", "RetryPolicyName", "LeaseOwner", "Route", "Checksum")

_fromisoformat = datetime.fromisoformat


def decode(raw: bytes, message_id: str) -> tuple[MessageMetadata, Fields]:
    """Read a record.

    A record of the Go system has no `Version`: it is 0 here, and what its `State` says is only a copy of where it lies.

    :raises CorruptRecordError: it isn't one
    """
    _check_seal(raw, message_id)
    try:
        fields: object = json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise _corrupt(message_id, f"isn't JSON: {error}") from None
    if not isinstance(fields, dict):
        raise _corrupt(message_id, "isn't a JSON object")
    fields = cast("dict[str, Any]", fields)
    if fields.get("ID") != message_id:
        raise _corrupt(message_id, f"says that its ID is {fields.get('ID')!r:.60}")
    if _SUSPECT.search(raw) is not None:
        _make_storable(fields)
    get = _Getter(fields, message_id)
    claimed_from = fields.get("ClaimedFrom")
    return (
        MessageMetadata(
            message_id,
            get.state("State", 0),
            get.number("Attempts", 0),
            get.number("MaxAttempts", 10),
            get.time("NextRetry"),
            get.time("Created"),
            get.time("Updated"),
            get.text("LastError"),
            get.number("Size", 0),
            get.number("Priority", 5),
            get.headers("Headers"),
            get.text("RetryPolicyName"),
            get.number("Version", 0),
            get.number("Deliveries", 0),
            get.text("LeaseOwner"),
            get.time("LeaseExpires"),
            None if claimed_from is None else get.state("ClaimedFrom", 0),
            get.text("Route"),
            get.text("Checksum"),
        ),
        fields,
    )


def _check_seal(raw: bytes, message_id: str) -> None:
    sealed, seal, end = raw.rpartition(_SEAL)
    if seal and end.rstrip() != b'%08x"\n}' % zlib.crc32(sealed):
        raise _corrupt(
            message_id, "isn't what its RecordChecksum was made of; whoever mends it by hand takes that field out"
        )


class _Getter:
    """Fields by type; a field that's missing or null has its default, one of another type is damage."""

    __slots__ = ("_fields", "_id")

    def __init__(self, fields: dict[str, Any], message_id: str) -> None:
        self._fields = fields
        self._id = message_id

    def number(self, name: str, default: int) -> int:
        value = self._fields.get(name)
        if type(value) is int and 0 <= value <= _MAX_INT:
            return value
        if value is None:
            return default
        raise self._wrong(name, "a whole number of at least 0 and 63 bits")

    def text(self, name: str) -> str:
        value = self._fields.get(name)
        if type(value) is str:
            return value
        if value is None:
            return ""
        raise self._wrong(name, "a text")

    def state(self, name: str, default: int) -> State:
        state = _STATES.get(self.number(name, default))
        if state is None:
            raise self._wrong(name, "a state, 0 to 5")
        return state

    def time(self, name: str) -> datetime:
        value = self._fields.get(name)
        if value is None:
            return ZERO_TIME
        try:
            return parse_time(value)
        except (TypeError, ValueError):
            raise self._wrong(name, "an RFC 3339 time") from None

    def headers(self, name: str) -> dict[str, str]:
        value = self._fields.get(name)
        if value is None:
            return {}
        if type(value) is dict:
            headers = cast("dict[str, Any]", value)
            if all(type(text) is str for text in headers.values()):
                return {key: text for key, text in headers.items() if key} if "" in headers else headers
        raise self._wrong(name, "an object of texts")

    def _wrong(self, name: str, expected: str) -> CorruptRecordError:
        return _corrupt(self._id, f"{name} is {self._fields[name]!r:.60}, expected {expected}")


def _make_storable(fields: dict[str, Any]) -> None:
    """Put a replacement character for what not every backend can store, and so no change would be taken with."""
    for name in _TEXTS:
        if type(fields.get(name)) is str:
            fields[name] = _UNSTORABLE.sub("\ufffd", fields[name])
    if type(fields.get("Headers")) is dict:
        headers = cast("dict[str, Any]", fields["Headers"])
        fields["Headers"] = {
            _UNSTORABLE.sub("\ufffd", key): _UNSTORABLE.sub("\ufffd", text) if type(text) is str else text
            for key, text in headers.items()
        }


def _corrupt(message_id: str, what: str) -> CorruptRecordError:
    return CorruptRecordError(f"the record of message {message_id!r} can't be read: {what}")


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 time in UTC; the first or last instant there is, where its zone would carry it beyond that.

    :raises ValueError: it isn't one, or has no zone
    """
    time = _fromisoformat(text)
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        msg = f"{text!r} has no time zone"
        raise ValueError(msg)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return ZERO_TIME if time.year == 1 else NEVER


def encode(record: MessageMetadata, previous: Fields | None = None) -> bytes:
    """Write a record.

    :param previous: what it replaces: its unknown fields, and the text of times that are the same, are kept
    """
    time = _time_text if previous is None else _time_keeper(previous)
    headers = ",".join(f"\n    {quoted(key)}: {quoted(value)}" for key, value in record.headers.items())
    if headers:
        headers += "\n  "
    text = (
        f'{{\n  "ID": {quoted(record.id)},\n'
        f'  "State": {record.state.value},\n'
        f'  "Attempts": {record.attempts},\n'
        f'  "MaxAttempts": {record.max_attempts},\n'
        f'  "NextRetry": {time("NextRetry", record.next_retry)},\n'
        f'  "Created": {time("Created", record.created)},\n'
        f'  "Updated": {time("Updated", record.updated)},\n'
        f'  "LastError": {quoted(record.last_error)},\n'
        f'  "Size": {record.size},\n'
        f'  "Priority": {record.priority},\n'
        f'  "Headers": {{{headers}}},\n'
        f'  "RetryPolicyName": {quoted(record.retry_policy_name)},\n'
        f'  "Version": {record.version},\n'
        f'  "Deliveries": {record.deliveries}'
    )
    if record.lease_owner or record.lease_expires != ZERO_TIME:
        text += f',\n  "LeaseOwner": {quoted(record.lease_owner)}'
        text += f',\n  "LeaseExpires": {time("LeaseExpires", record.lease_expires)}'
    if record.claimed_from is not None:
        text += f',\n  "ClaimedFrom": {record.claimed_from.value}'
    if record.route:
        text += f',\n  "Route": {quoted(record.route)}'
    if record.checksum:
        text += f',\n  "Checksum": {quoted(record.checksum)}'
    if previous is not None and not previous.keys() <= _KNOWN_FIELDS:
        for name, value in previous.items():
            if name not in _KNOWN_FIELDS:
                text += f",\n  {quoted(name)}: {_dumped(value, record.id)}"
    sealed = text.encode("ascii")
    return b'%b%b%08x"\n}\n' % (sealed, _SEAL, zlib.crc32(sealed))


def _dumped(value: object, message_id: str) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # read with a little more room than there is to write it
        raise _corrupt(message_id, "an unknown field is nested too deep") from None


def _time_text(_name: str, time: datetime) -> str:
    return f'"{time.isoformat()[:-6]}Z"'  # it's in UTC, so its last six characters are +00:00


def _time_keeper(previous: Fields) -> Callable[[str, datetime], str]:
    def keep(name: str, time: datetime) -> str:
        old = previous.get(name)
        if isinstance(old, str) and parse_time(old) == time:
            return quoted(old)
        return _time_text(name, time)

    return keep
