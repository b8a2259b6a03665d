"""Records that can't be read: neither hidden nor handed out. What is stored is reached by a way around the backend."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from retryspool.conformance.marks import clause
from retryspool.conformance.meta.acting import claim, ids, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta
from retryspool.conformance.profiles import Profile
from retryspool.conformance.stores import Stores
from retryspool.conformance.suite import needs, needs_capability
from retryspool.errors import CorruptRecordError, MessageNotFoundError, StorageError
from retryspool.meta import ListOptions, MetaBackend, MetaFactory
from retryspool.model import MessageMetadata, State

__all__ = ["DamageTests"]

Spoil = Callable[[str, Callable[[bytes], bytes]], MessageMetadata]
"""Stores a record and damages it, by a way around the backend; returns what it was."""

_GARBAGE = (b"null", b"[]", b"{}", b"{", b"\xff\xfe\xfd", b"garbage, no record", b"1", b'"x"', b"\0 \0", b"\n")
_EMPTY = (b"", b"\0", b"\0" * 512)
"""What a disk may have left of a record that was cut off while it was created, and that nobody was promised."""


class DamageTests(MetaSuite):
    @clause("META-40")
    def test_what_was_replaced_by_garbage_is_never_a_record(self, meta: MetaBackend, spoil: Spoil) -> None:
        damaged = {
            f"m{number}": spoil(f"m{number}", partial(_replaced, garbage)) for number, garbage in enumerate(_GARBAGE)
        }

        _see_that_none_is_handed_out(meta, damaged)

    @clause("META-40")
    def test_what_is_empty_is_no_record_and_no_secret(self, meta: MetaBackend, spoil: Spoil) -> None:
        for number, empty in enumerate(_EMPTY):
            spoil(f"empty{number}", partial(_replaced, empty))

        for number in range(len(_EMPTY)):
            with pytest.raises((CorruptRecordError, MessageNotFoundError)):
                meta.get_meta(f"empty{number}")
        assert [] == claim(meta)
        assert [] == list(meta.iter_messages(State.INCOMING))
        told = " ".join(f"{finding.subject} {finding.message_id}" for finding in meta.check())
        assert all(f"empty{number}" in told for number in range(len(_EMPTY)))

    @clause("META-40")
    def test_what_was_cut_off_is_never_another_record(
        self, meta: MetaBackend, spoil: Spoil, profile: Profile, seed: int
    ) -> None:
        chance = random.Random(seed)
        damaged = {
            f"m{number}": spoil(f"m{number}", lambda stored: stored[: chance.randrange(1, len(stored))])
            for number in range(2 * profile.examples)
        }

        _see_that_none_is_handed_out(meta, damaged)

    @clause("META-59")
    def test_what_has_a_bit_flipped_is_never_another_record(
        self, meta: MetaBackend, spoil: Spoil, profile: Profile, seed: int
    ) -> None:
        needs_capability(meta.capabilities, "checksums")
        chance = random.Random(seed)

        def flipped(stored: bytes) -> bytes:
            place = chance.randrange(len(stored))
            return stored[:place] + bytes([stored[place] ^ 1 << chance.randrange(8)]) + stored[place + 1 :]

        damaged = {f"m{number}": spoil(f"m{number}", flipped) for number in range(4 * profile.examples)}

        _see_that_none_is_handed_out(meta, damaged)

    @clause("META-59")
    def test_the_record_of_another_message_is_not_handed_out_as_this_one(self, meta: MetaBackend, spoil: Spoil) -> None:
        needs_capability(meta.capabilities, "checksums")
        seen: list[bytes] = []

        def look(stored: bytes) -> bytes:
            seen.append(stored)
            return stored

        damaged = {"other": spoil("other", look)}
        damaged["m"] = spoil("m", partial(_replaced, seen[0]))

        _see_that_none_is_handed_out(meta, damaged)
        assert "other" == meta.get_meta("other").id

    @clause("META-40")
    def test_what_cannot_be_read_is_kept_for_who_can_mend_it(
        self, meta: MetaBackend, open_meta: OpenMeta, spoil: Spoil
    ) -> None:
        for message_id in ("read", "moved", "claimed"):
            spoil(message_id, partial(_replaced, b"garbage, no record"))

        with pytest.raises(CorruptRecordError):
            meta.get_meta("read")
        with pytest.raises(CorruptRecordError):
            meta.move_to_state("moved", State.INCOMING, State.HOLD)
        assert [] == claim(meta)
        assert [] == [record.id for state in State for record in meta.iter_messages(state)]

        meta.close()
        assert {"read", "moved", "claimed"} <= {finding.message_id for finding in open_meta().check()}

    @clause("META-40")
    def test_a_caller_may_replace_or_delete_what_cannot_be_read_or_is_told(
        self, meta: MetaBackend, spoil: Spoil
    ) -> None:
        for message_id in ("replaced", "deleted"):
            spoil(message_id, partial(_replaced, b"garbage, no record"))

        with suppress(CorruptRecordError):
            replaced = meta.update_meta("replaced", MessageMetadata("replaced", size=9))
            assert (replaced, 9) == (meta.get_meta("replaced"), replaced.size)
        with suppress(CorruptRecordError):
            meta.delete_meta("deleted")
            with pytest.raises(MessageNotFoundError):
                meta.get_meta("deleted")

    @pytest.fixture
    def spoil(self, stores: Stores[MetaFactory, MetaBackend], meta_factory: MetaFactory, meta: MetaBackend) -> Spoil:
        """Store a record and damage it, by a way around the backend; return what it was."""
        needs(self, "raw_get")
        needs(self, "raw_put")
        namespace = stores.namespace_of(meta_factory)

        def spoil(message_id: str, damage: Callable[[bytes], bytes]) -> MessageMetadata:
            fields = {"attempts": 3, "last_error": "some text", "headers": {"k": "value"}, "route": "r", "size": 17}
            stored = store(meta, message_id, **fields)
            self.raw_put(namespace, message_id, damage(self.raw_get(namespace, message_id)))
            return stored

        return spoil


def _replaced(by: bytes, _: bytes) -> bytes:
    return by


def _see_that_none_is_handed_out(meta: MetaBackend, damaged: dict[str, MessageMetadata]) -> None:
    """Try every way to a record: it's what was stored, or it isn't handed out and a finding names it."""
    sound = [store(meta, f"sound{number}", attempts=number) for number in range(5)]

    iterated = {record.id: record for state in State for record in meta.iter_messages(state, 3)}
    listed = {name for state in State for name in meta.list_messages(state, ListOptions(limit=10_000)).message_ids}
    read = {message_id: record for message_id in damaged if (record := _read(meta, message_id)) is not None}
    found = {finding.message_id for finding in meta.check()}
    claimed = claim(meta, State.INCOMING, limit=10_000)

    assert {record.id: record for record in sound} == {name: iterated.pop(name) for name in ids(sound)}
    assert set(ids(sound)) <= listed
    for found_record in (*iterated.values(), *read.values()):
        assert damaged[found_record.id] == found_record, "it was handed out as what it never was"
    assert set(damaged) - set(read) <= found, "what can't be read isn't reported"
    assert set(ids(claimed)) <= {*ids(sound), *read}, "what can't be read was claimed"
    for record in claimed:
        whole = damaged.get(record.id) or next(each for each in sound if each.id == record.id)
        assert (whole.attempts, whole.size, whole.headers) == (record.attempts, record.size, record.headers)


def _read(meta: MetaBackend, message_id: str) -> MessageMetadata | None:
    try:
        return meta.get_meta(message_id)
    except CorruptRecordError:
        return None
    except StorageError as error:
        msg = f"{message_id!r} is there, and can't be read, but it raises {error!r}"
        raise AssertionError(msg) from error
