"""Deleting, and iterating over all there is while it changes."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from retryspool.conformance.comparing import assert_all_same
from retryspool.conformance.data_suite import DataSuite, NewData, OpenData, assert_stored, read, sizes
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.data import DataBackend
from retryspool.errors import DataNotFoundError
from retryspool.model import utc_now

__all__ = ["DeletingAndIteratingTests"]

_BATCH = 100
_CLOCKS = timedelta(minutes=5)


class DeletingAndIteratingTests(DataSuite):
    @clause("DATA-14")
    def test_a_deleted_payload_is_gone_and_may_be_deleted_again(self, data: DataBackend, open_data: OpenData) -> None:
        data.store_data("a", b"x")
        data.store_data("b", b"y")

        data.delete_data("a")
        data.delete_data("a")
        data.delete_data("never-there")

        for backend in (data, open_data()):
            with pytest.raises(DataNotFoundError):
                backend.get_data_reader("a")
            assert_stored({"b": b"y"}, backend)
            assert {"b": b"y"} == dict(backend.fetch_many(["a", "b"], max_bytes=9))

    @clause("DATA-14")
    def test_a_large_payload_is_deleted_whole(self, data: DataBackend, profile: Profile) -> None:
        data.store_data("a", b"x" * (profile.payload_bytes // 4))

        data.delete_data("a")

        assert {} == sizes(data)
        assert 1 == data.store_data("a", b"y", if_absent=True)
        assert_stored({"a": b"y"}, data)

    @clause("DATA-17")
    def test_an_empty_store_yields_nothing(self, new_data: NewData) -> None:
        assert [] == list(new_data().iter_data())

    @clause("DATA-17")
    def test_an_iteration_tells_size_and_time_of_each(self, data: DataBackend) -> None:
        """By the store's clock, which may be another machine's: it's right by some minutes, and goes on."""
        data.store_data("first", b"x")
        data.store_data("second", b"four")

        infos = {info.message_id: info for info in data.iter_data()}

        assert {"first": 1, "second": 4} == {name: info.size for name, info in infos.items()}
        assert {timedelta(0)} == {info.modified.utcoffset() for info in infos.values()}
        assert _CLOCKS > max(abs(info.modified - utc_now()) for info in infos.values())
        assert infos["first"].modified <= infos["second"].modified

        data.store_data("first", b"new")
        again = {info.message_id: info for info in data.iter_data()}
        assert infos["first"].modified <= again["first"].modified
        assert infos["second"] == again["second"]

    @clause("DATA-17")
    def test_many_are_iterated_once_each(self, data: DataBackend, profile: Profile) -> None:
        expected = {f"m{number}": number % 7 for number in range(profile.messages + 23)}
        items = [(message_id, b"x" * size) for message_id, size in expected.items()]
        for start in range(0, len(items), _BATCH):
            data.store_many(items[start : start + _BATCH])

        assert_all_same(expected, sizes(data), "the size of")
        one, other = data.iter_data(), data.iter_data()
        found = [(next(one).message_id, next(other).message_id) for _ in expected]
        assert (set(expected), set(expected)) == ({each for each, _ in found}, {each for _, each in found})

    @clause("DATA-17", "DATA-18")
    def test_what_stays_is_iterated_once_while_others_come_and_go(self, data: DataBackend) -> None:
        stay = {f"{number:02}-stay" for number in range(20)}
        data.store_many([(name, b"x") for each in sorted(stay) for name in (each, f"gone-{each}")])

        found: list[str] = []
        for number, info in enumerate(data.iter_data()):
            found.append(info.message_id)
            data.delete_data(f"gone-{number % 20:02}-stay")
            if number < 60:  # else one that yields what is new would never end
                data.store_data(f"come-{number}" if number < 20 else f"{number % 20:02}-stay", b"xx")
                read(data, "00-stay")

        assert stay == stay & set(found)
        assert len(found) == len(set(found))

    @clause("DATA-18")
    def test_all_may_be_deleted_while_they_are_iterated(self, data: DataBackend) -> None:
        names = {f"m{number}" for number in range(50)}
        data.store_many([(name, b"x") for name in sorted(names)])

        found: list[str] = []
        for info in data.iter_data():
            found.append(info.message_id)
            data.delete_data(info.message_id)

        assert sorted(names) == sorted(found)
        assert {} == sizes(data)

    @clause("DATA-18")
    def test_an_iteration_may_be_left(self, data: DataBackend) -> None:
        data.store_many([(f"m{number}", b"x") for number in range(50)])
        for _ in range(40):
            next(iter(data.iter_data()))

        for number in range(50):
            data.delete_data(f"m{number}")
        assert {} == sizes(data)

    @clause("DATA-17", "DATA-18", level=Level.CONCURRENT)
    def test_what_stays_is_iterated_once_while_threads_change_the_rest(
        self, data: DataBackend, profile: Profile
    ) -> None:
        stay = {f"stay-{number}": 1 for number in range(profile.messages)}
        data.store_many([(name, b"x") for name in stay])
        iterating = threading.Event()
        iterating.set()

        def run(racer: int) -> int:
            if racer == 0:
                try:
                    for _ in range(3):
                        found = sizes(data)
                        assert stay == {name: size for name, size in found.items() if name in stay}
                        assert {1, 2, 300_000} >= set(found.values())
                finally:
                    iterating.clear()
                return 0
            turn = 0
            while iterating.is_set():
                data.store_data(f"new-{racer}-{turn}", b"xx")
                data.store_data(f"changed-{racer}", b"x" * (300_000 if turn % 2 else 2))
                data.delete_data(f"new-{racer}-{turn - 1}")
                turn += 1
            return 0

        assert [0, 0, 0] == race(3, run)
