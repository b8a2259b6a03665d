"""Records: their ids, what may be stored, and that it's read as it was stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import HOUR, claim, forget, ids, populated, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.conformance.strategies import HOSTILE_IDS, TRICKY_IDS, message_ids, records
from retryspool.errors import InvalidMessageIdError, InvalidMetadataError, MessageExistsError
from retryspool.meta import Delete, MetaBackend, Move, Store, Update
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["RecordTests"]

_CALLS_WITH_AN_ID: dict[str, Callable[[MetaBackend, Any], object]] = {
    "store": lambda meta, it: meta.store_meta(it, MessageMetadata(it)),
    "store under": lambda meta, it: meta.store_meta(it, MessageMetadata("a")),
    "get": lambda meta, it: meta.get_meta(it),
    "update": lambda meta, it: meta.update_meta(it, MessageMetadata(it)),
    "update a version": lambda meta, it: meta.update_meta(it, MessageMetadata(it), if_version=1),
    "delete": lambda meta, it: meta.delete_meta(it),
    "move": lambda meta, it: meta.move_to_state(it, State.INCOMING, State.HOLD),
    "look": lambda meta, it: meta.move_to_state(it, State.INCOMING, State.INCOMING),
    "renew": lambda meta, it: meta.renew([MessageMetadata(it)], lease=HOUR),
    "batch store": lambda meta, it: meta.apply([Store(MessageMetadata("new")), Store(MessageMetadata(it))]),
    "batch update": lambda meta, it: meta.apply([Store(MessageMetadata("new")), Update(MessageMetadata(it))]),
    "batch move": lambda meta, it: meta.apply([Delete("a"), Move(it, State.INCOMING, State.HOLD)]),
    "batch delete": lambda meta, it: meta.apply([Delete("a"), Delete(it)]),
}

_INVALID: dict[str, dict[str, Any]] = {
    "attempts below 0": {"attempts": -1},
    "attempts that are no integer": {"attempts": 1.5},
    "size of 64 bits": {"size": 2**63},
    "deliveries below 0": {"deliveries": -1},
    "most attempts of 64 bits": {"max_attempts": 2**64},
    "priority that is text": {"priority": "5"},
    "next retry without a zone": {"next_retry": datetime(2024, 1, 1)},  # noqa: DTZ001
    "creation without a zone": {"created": datetime(2024, 1, 1)},  # noqa: DTZ001
    "lease without a zone": {"state": State.ACTIVE, "lease_expires": datetime(2024, 1, 1)},  # noqa: DTZ001
    "time before year 1 in UTC": {"created": datetime.min.replace(tzinfo=timezone(HOUR))},
    "time after year 9999 in UTC": {"created": NEVER.replace(tzinfo=timezone(-HOUR))},
    "error with a NUL": {"last_error": "\0"},
    "route with a lone surrogate": {"route": "\ud800"},
    "policy that is no text": {"retry_policy_name": 7},
    "header without a name": {"headers": {"": "x"}},
    "header with a NUL": {"headers": {"x": "\0"}},
    "header named with a surrogate": {"headers": {"\udfff": "x"}},
    "header of bytes": {"headers": {"x": b"y"}},
    "another id": {"id": "b"},
}

_WHOLE = MessageMetadata(
    "a",
    state=State.ACTIVE,
    attempts=2**63 - 1,
    max_attempts=2**53 + 1,
    next_retry=datetime(2031, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    created=datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    last_error="line 1\r\nline 2\t“é” \x7f\u2028 \U0001f4ee {}[]\"'\\%s,;: <&> ",
    size=2**63 - 1,
    priority=0,
    headers={
        "To": "ünï@例え.jp",
        "to": " blanks ",
        "X-Ünï": "",
        " ": "\n",
        "a.b:c{d}": "\\x00",
        "__id": "-1",
        "$": "%",
    },
    retry_policy_name="Δ",
    deliveries=2**32,
    lease_owner="host-1.example:4711/018f@a_b=c+d",
    lease_expires=datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    claimed_from=State.BOUNCE,
    route="例え.jp/ü",
    checksum="00c0ffee",
)
"""A value of its own in each field, and one that something stumbles over where there is one."""


class RecordTests(MetaSuite):
    # -- ids -----------------------------------------------------------------------------------------------------------

    @clause("META-1")
    def test_ids_that_look_alike_are_different_messages(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        stored = [store(meta, message_id, size=number) for number, message_id in enumerate(TRICKY_IDS)]

        assert list(range(len(TRICKY_IDS))) == [meta.get_meta(message_id).size for message_id in TRICKY_IDS]
        assert {record.id: record for record in stored} == everything(meta)

        for message_id in TRICKY_IDS[::2]:
            meta.delete_meta(message_id)
        for message_id in TRICKY_IDS[1::4]:
            meta.move_to_state(message_id, State.INCOMING, State.HOLD)
        meta.close()
        expected = {State.INCOMING: sorted(TRICKY_IDS[3::4]), State.HOLD: sorted(TRICKY_IDS[1::4])}
        assert expected == populated(open_meta())

    @clause("META-1")
    def test_every_id_is_one_message(self, meta: MetaBackend, profile: Profile, seed: int) -> None:
        def check(names: set[str]) -> None:
            for name in names:
                store(meta, name, last_error=name)

            assert {State.INCOMING: sorted(names)} == populated(meta)
            assert all(name == meta.get_meta(name).last_error for name in names)
            forget(meta, names)

        explore(st.sets(message_ids, min_size=1, max_size=6), check, examples=profile.examples, seed=seed)

    @pytest.mark.parametrize("call", _CALLS_WITH_AN_ID)
    @clause("META-2")
    def test_what_is_no_id_is_refused_and_changes_nothing(self, meta: MetaBackend, call: str) -> None:
        stored = store(meta, "a")

        for hostile in (*HOSTILE_IDS, None, 7, b"a"):
            with pytest.raises(InvalidMessageIdError):
                _CALLS_WITH_AN_ID[call](meta, hostile)

        assert {"a": stored} == everything(meta)

    @clause("META-2")
    def test_any_text_is_stored_as_it_is_or_refused(self, meta: MetaBackend, profile: Profile, seed: int) -> None:
        def check(text: str) -> None:
            try:
                store(meta, text)
            except InvalidMessageIdError:
                assert {} == everything(meta)
            else:
                assert [text] == list(everything(meta))
                meta.delete_meta(text)

        explore(st.text(max_size=30), check, examples=profile.examples, seed=seed)

    @clause("META-2", "META-5")
    def test_input_that_is_none_is_refused_before_anything_else(self, meta: MetaBackend) -> None:
        meta.close()  # so whoever does look at the store first says so

        for call in _CALLS_WITH_AN_ID.values():
            with pytest.raises(InvalidMessageIdError):
                call(meta, "../a")
        with pytest.raises(InvalidMetadataError):
            store(meta, "a", attempts=-1)
        with pytest.raises(InvalidMetadataError):
            meta.update_meta("a", MessageMetadata("a", attempts=-1))

    # -- what is read --------------------------------------------------------------------------------------------------

    @clause("META-4")
    def test_what_is_stored_is_what_is_read(
        self, meta: MetaBackend, open_meta: OpenMeta, profile: Profile, seed: int
    ) -> None:
        other = open_meta()

        def check(metadata: MessageMetadata) -> None:
            forget(meta, ["m"])
            stored = meta.store_meta("m", metadata)

            created = stored.created if metadata.created == ZERO_TIME else metadata.created
            assert replace(metadata, version=1, created=created, updated=stored.updated) == stored
            assert stored == meta.get_meta("m") == other.get_meta("m")
            assert [stored] == list(meta.iter_messages(metadata.state))

        explore(records(), check, examples=profile.examples, seed=seed)

    @clause("META-4")
    def test_each_field_comes_back_from_every_way_to_read_it(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        stored = meta.store_meta("a", _WHOLE)

        assert replace(_WHOLE, version=1, updated=stored.updated) == stored
        other = open_meta()
        ways = [meta.get_meta("a"), other.get_meta("a"), *meta.iter_messages(State.ACTIVE)]
        ways.append(meta.move_to_state("a", State.ACTIVE, State.ACTIVE))
        assert [stored] * 4 == ways
        moved = meta.move_to_state("a", State.ACTIVE, State.HOLD)
        kept = replace(stored, state=State.HOLD, version=2, updated=moved.updated)
        assert replace(kept, lease_owner="", lease_expires=ZERO_TIME, claimed_from=None) == moved == other.get_meta("a")

    @clause("META-4")
    def test_a_record_of_defaults_is_read_with_them(self, meta: MetaBackend) -> None:
        stored = store(meta, "a")

        expected = replace(MessageMetadata("a"), version=1, created=stored.created, updated=stored.updated)
        assert expected == stored == meta.get_meta("a")

    @clause("META-4")
    def test_times_come_back_in_utc(self, meta: MetaBackend, profile: Profile, seed: int) -> None:
        def check(metadata: MessageMetadata) -> None:
            forget(meta, ["m"])
            stored = meta.store_meta("m", metadata)

            for record in (stored, meta.get_meta("m"), meta.update_meta("m", metadata)):
                for moment in (record.created, record.updated, record.next_retry, record.lease_expires):
                    assert timedelta(0) == moment.utcoffset()

        explore(records(), check, examples=profile.examples, seed=seed)

    @clause("META-4", "META-26")
    def test_the_zone_of_the_machine_is_nobodys_business(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        with _in_zone("NPT-05:45"):
            before = clock()
            stored = store(meta, "a", next_retry=before + HOUR)
            due = store(meta, "due", next_retry=before)

            assert before <= stored.updated <= clock()
            assert before + HOUR == meta.get_meta("a").next_retry
            (claimed,) = claim(meta)
            assert (due.id, True) == (claimed.id, before + HOUR <= claimed.lease_expires <= clock() + HOUR)
        assert stored == meta.get_meta("a")

    @clause("META-4")
    def test_times_are_kept_to_the_microsecond(self, meta: MetaBackend) -> None:
        nepal = timezone(timedelta(hours=5, minutes=45))
        times = [
            datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=nepal),
            datetime(2038, 1, 19, 3, 14, 8, 1, tzinfo=UTC),
            datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(1970, 1, 1, tzinfo=UTC),
            NEVER - timedelta(microseconds=1),
            NEVER,
            ZERO_TIME,
        ]
        for number, moment in enumerate(times):
            store(meta, f"m{number}", next_retry=moment, state=State.ACTIVE, lease_expires=moment)

        found = [meta.get_meta(f"m{number}") for number in range(len(times))]

        assert times == [record.next_retry for record in found]
        assert times == [record.lease_expires for record in found]

    @clause("META-4")
    def test_integers_are_kept_to_the_last_digit(self, meta: MetaBackend) -> None:
        numbers = [0, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 2, 2**63 - 1]
        names = ("attempts", "max_attempts", "size", "priority", "deliveries")
        for number in numbers:
            store(meta, f"m{number}", **dict.fromkeys(names, number))

        for number in numbers:
            read = meta.get_meta(f"m{number}")
            assert dict.fromkeys(names, number) == {name: getattr(read, name) for name in names}

    @clause("META-4")
    def test_what_the_caller_does_with_its_headers_afterwards_changes_nothing(self, meta: MetaBackend) -> None:
        mine = {"k": "v"}
        stored = store(meta, "a", headers=mine)
        mine["k"] = "changed"
        for read in (stored, meta.get_meta("a"), *meta.iter_messages(State.INCOMING)):
            with suppress(TypeError):  # a mapping that can't be changed is as good
                read.headers["k"] = "changed"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]

        assert {"k": "v"} == dict(meta.get_meta("a").headers)

    @clause("META-4")
    def test_a_record_may_be_large(self, meta: MetaBackend) -> None:
        large = {f"x-{number}": "ä" * 500 for number in range(50)}

        stored = store(meta, "a", headers=large, last_error="x" * 20_000)

        assert stored == meta.get_meta("a")
        assert (large, 20_000) == (dict(stored.headers), len(stored.last_error))

    # -- what is stored ------------------------------------------------------------------------------------------------

    @clause("META-3")
    def test_a_second_store_is_refused_and_touches_nothing(self, meta: MetaBackend) -> None:
        first = store(meta, "a", headers={"n": "1"})

        for state in State:
            with pytest.raises(MessageExistsError, match="'a'"):
                store(meta, "a", state=state, headers={"n": "2"})

        assert {"a": first} == everything(meta)
        assert {State.INCOMING: ["a"]} == populated(meta)

    @clause("META-3")
    def test_whatever_state_a_message_is_in_its_id_is_taken(self, meta: MetaBackend) -> None:
        stored = [store(meta, state.label, state=state) for state in State]

        for state in State:
            with pytest.raises(MessageExistsError):
                store(meta, state.label)

        assert {record.id: record for record in stored} == everything(meta)

    @clause("META-13")
    def test_a_message_is_stored_in_any_state(self, meta: MetaBackend) -> None:
        for state in State:
            assert state is store(meta, state.label, state=state).state

        assert {state: [state.label] for state in State} == populated(meta)
        assert list(State) == [meta.get_meta(state.label).state for state in State]

    @pytest.mark.parametrize("case", _INVALID)
    @clause("META-5")
    def test_a_record_that_not_every_backend_could_store_is_refused(self, meta: MetaBackend, case: str) -> None:
        invalid = replace(MessageMetadata("a"), **_INVALID[case])
        with pytest.raises(InvalidMetadataError):
            meta.store_meta("a", invalid)
        assert {} == everything(meta)

        first = store(meta, "a")
        with pytest.raises(InvalidMetadataError):
            meta.update_meta("a", invalid)
        with pytest.raises(InvalidMetadataError):
            meta.store_meta("a", invalid)  # and doesn't say that there's one
        assert {"a": first} == everything(meta)

    @clause("META-6")
    def test_the_backend_sets_version_and_times(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        before = clock()

        stored = store(meta, "a", version=77, updated=before - HOUR)
        between = clock()
        given = store(meta, "b", created=before - 9 * HOUR, updated=before + HOUR)

        assert (1, stored.updated) == (stored.version, stored.created)
        assert before <= stored.updated <= between <= given.updated <= clock()
        assert (1, before - 9 * HOUR) == (given.version, given.created)
        assert {"a": stored, "b": given} == everything(meta)

    @clause("META-3", level=Level.CONCURRENT)
    def test_of_many_stores_of_one_id_one_wins(self, meta: MetaBackend, profile: Profile) -> None:
        for number in range(5):
            name = f"m{number}"

            def run(racer: int, name: str = name) -> MessageMetadata:
                return store(meta, name, state=list(State)[racer % 6], size=racer)

            results = race(profile.racers, run)

            winners = [result for result in results if isinstance(result, MessageMetadata)]
            assert [meta.get_meta(name)] == winners
            assert profile.racers - 1 == sum(isinstance(result, MessageExistsError) for result in results)
        assert sorted(f"m{number}" for number in range(5)) == sorted(ids(everything(meta).values()))


@contextmanager
def _in_zone(name: str) -> Generator[None]:
    """Let this process live in another time zone."""
    if not hasattr(time, "tzset"):
        pytest.skip("this system can't change a process's time zone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", name)
        time.tzset()
        try:
            yield
        finally:
            patch.undo()
            time.tzset()
