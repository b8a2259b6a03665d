"""Ids of payloads: any two valid ones are two payloads, and all else is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import strategies as st

from retryspool.conformance.data.payloads import CALLS
from retryspool.conformance.data_suite import DataSuite, NewData, assert_stored, read, sizes
from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.strategies import HOSTILE_IDS, TRICKY_IDS, message_ids
from retryspool.data import DataBackend
from retryspool.errors import DataNotFoundError, InvalidMessageIdError

__all__ = ["DataIdTests"]


class DataIdTests(DataSuite):
    @clause("DATA-1")
    def test_ids_that_look_alike_are_different_payloads(self, data: DataBackend) -> None:
        for message_id in TRICKY_IDS:
            data.store_data(message_id, message_id.encode(), if_absent=True)

        assert {message_id: len(message_id) for message_id in TRICKY_IDS} == sizes(data)
        assert list(TRICKY_IDS) == [read(data, message_id).decode() for message_id in TRICKY_IDS]

        for message_id in TRICKY_IDS[::2]:
            data.delete_data(message_id)
        assert set(TRICKY_IDS[1::2]) == set(sizes(data))
        assert list(TRICKY_IDS[1::2]) == [read(data, message_id).decode() for message_id in TRICKY_IDS[1::2]]

    @clause("DATA-1")
    def test_every_id_has_its_payload(self, data: DataBackend, profile: Profile, seed: int) -> None:
        def check(payloads: dict[str, bytes]) -> None:
            for message_id, payload in payloads.items():
                assert len(payload) == data.store_data(message_id, payload)

            assert payloads == {message_id: read(data, message_id) for message_id in payloads}
            assert {message_id: len(payload) for message_id, payload in payloads.items()} == sizes(data)

            for message_id in payloads:
                data.delete_data(message_id)
            assert {} == sizes(data)

        strategy = st.dictionaries(message_ids, st.binary(max_size=100), max_size=8)
        explore(strategy, check, examples=profile.examples, seed=seed)

    @clause("DATA-1")
    def test_one_id_of_a_pair_that_looks_alike_is_not_taken_for_the_other(self, new_data: NewData) -> None:
        data = new_data()
        for here, missing in (("A", "a"), ("b", "B"), ("c.json", "c"), ("d", "d.data"), ("e.", "e"), ("f", "f.tmp.1")):
            data.store_data(here, b"x")

            with pytest.raises(DataNotFoundError):
                data.get_data_reader(missing)
            data.delete_data(missing)
            assert b"x" == read(data, here)

    @clause("DATA-2")
    def test_what_is_no_id_is_refused_and_changes_nothing(self, data: DataBackend) -> None:
        data.store_data("a", b"kept")
        taken: list[tuple[str, object]] = []
        for call, do in CALLS.items():
            for hostile in (*HOSTILE_IDS, None, 7, b"a"):
                with contextlib.suppress(InvalidMessageIdError):
                    do(data, hostile)
                    taken.append((call, hostile))

        assert [] == taken
        assert_stored({"a": b"kept"}, data)

    @clause("DATA-2")
    def test_what_is_no_id_is_refused_before_the_source_is_read(self, data: DataBackend) -> None:
        source = iter([b"one", b"two"])

        with pytest.raises(InvalidMessageIdError):
            data.store_data("../a", source)

        assert [b"one", b"two"] == list(source)
