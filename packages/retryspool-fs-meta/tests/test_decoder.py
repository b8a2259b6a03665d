"""Records that were cut, flipped or made up are errors or what they were: never a crash, and never another record."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from strategies import FAST, records

from retryspool.errors import CorruptRecordError
from retryspool.model import MessageMetadata, State, utc_now
from retryspool.records import created, validate_metadata
from retryspool_fs_meta import FsMetaFactory
from retryspool_fs_meta.codec import decode, encode


def decoded(raw: bytes) -> MessageMetadata | None:
    """Decode it, and see that what comes out could be stored again."""
    try:
        record, fields = decode(raw, "m")
    except CorruptRecordError:
        return None
    assert "m" == record.id
    validate_metadata(record)
    assert record == decode(encode(record, fields), "m")[0]
    return record


@FAST
@given(records())
def test_a_record_comes_back_as_it_was(record: MessageMetadata) -> None:
    stored = created(record, utc_now())  # with all its times in UTC
    assert stored == decode(encode(stored), "m")[0]


@FAST
@given(records())
def test_a_record_that_was_cut_anywhere_is_none(record: MessageMetadata) -> None:
    raw = encode(record)
    whole = len(raw.rstrip())
    assert not any(decoded(raw[:length]) for length in range(whole))


@FAST
@given(records(), st.randoms(use_true_random=False))
def test_a_record_with_a_flipped_bit_is_none_or_what_it_was(record: MessageMetadata, chance: random.Random) -> None:
    raw = bytearray(encode(record))
    whole = decoded(bytes(raw))
    for _ in range(50):
        flipped = bytearray(raw)
        flipped[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        assert decoded(bytes(flipped)) in (None, whole)


def test_a_record_that_was_mended_by_hand_is_read_without_its_checksum() -> None:
    raw = encode(MessageMetadata("m", attempts=1, version=3)).replace(b'"Attempts": 1', b'"Attempts": 2')
    assert decoded(raw) is None

    mended = decoded(re.sub(rb',\n  "RecordChecksum": "[0-9a-f]{8}"', b"", raw))

    assert MessageMetadata("m", attempts=2, version=3) == mended


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(sorted(decode(encode(MessageMetadata("m")), "m")[1])) | st.sampled_from(
    ["LeaseOwner", "LeaseExpires", "ClaimedFrom", "Route", "Unknown"]
)


@FAST
@given(st.dictionaries(names, json_values, max_size=6))
def test_a_record_of_any_json_is_none_or_a_record(fields: dict[str, object]) -> None:
    decoded(json.dumps(fields).encode())


@FAST
@given(st.binary(max_size=300))
def test_a_record_of_any_bytes_is_none_or_a_record(raw: bytes) -> None:
    decoded(raw)


def test_a_spool_of_damaged_records_lists_those_that_are_sound(base: Path) -> None:
    chance = random.Random(7)
    (base / "incoming").mkdir(parents=True)
    for number in range(300):
        raw = bytearray(encode(MessageMetadata(f"m{number}", last_error="text", headers={"a": "b"}, version=1)))
        if number % 3 == 0:
            del raw[chance.randrange(len(raw)) :]
        elif number % 3 == 1:
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        (base / "incoming" / f"m{number}.json").write_bytes(raw)
    with FsMetaFactory(base, sync="performance").create() as backend:
        listed = [
            message_id for state in State for message_id in (record.id for record in backend.iter_messages(state))
        ]
        damaged = {path.name.split(".")[0] for path in (base / "corrupt").iterdir()}
        assert {f"m{number}" for number in range(300)} == set(listed) | damaged
        assert len(listed) == len(set(listed))
        assert {f"m{number}" for number in range(2, 300, 3)} <= set(listed)
        assert not set(listed) & damaged
