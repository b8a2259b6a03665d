"""Payloads that many threads store, replace, read and delete at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from retryspool.conformance.comparing import assert_all_same, assert_same
from retryspool.conformance.data.payloads import KIB, MIB, content, signature, signed
from retryspool.conformance.data_suite import DataSuite, OpenData, read, sizes
from retryspool.conformance.finishing import finish
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.data import DataBackend
from retryspool.errors import DataExistsError, DataNotFoundError

__all__ = ["SharingTests"]

_AT_ONCE = 8
"""Writers that are open at the same moment: each may hold a connection, of which a pool has only so many."""


class SharingTests(DataSuite):
    @clause("DATA-7", level=Level.CONCURRENT)
    def test_of_many_that_store_if_absent_one_wins(self, data: DataBackend, profile: Profile) -> None:
        for turn in range(profile.races):
            name, size = f"m{turn}", 30 + turn * 80_000
            results = race(
                profile.racers,
                lambda racer, turn=turn, name=name, size=size: data.store_data(  # type: ignore[misc]
                    name, signed(racer, turn, size), if_absent=True
                ),
            )

            winners = [racer for racer, result in enumerate(results) if isinstance(result, int)]
            assert 1 == len(winners)
            assert profile.racers - 1 == sum(isinstance(result, DataExistsError) for result in results)
            assert (winners[0], turn) == signature(read(data, name))
            assert size == sizes(data)[name]

    @clause("DATA-7", level=Level.CONCURRENT)
    def test_of_many_open_writers_if_absent_one_wins(self, data: DataBackend, profile: Profile) -> None:
        for turn in range(profile.races):
            everyone = threading.Barrier(_AT_ONCE)

            def write(racer: int, turn: int = turn, everyone: threading.Barrier = everyone) -> int:
                try:
                    writer = data.get_data_writer(f"m{turn}", if_absent=True)
                    writer.write(signed(racer, turn, 100 * KIB))
                finally:
                    everyone.wait()
                writer.close()
                return racer

            results = race(_AT_ONCE, write)

            winners = [result for result in results if isinstance(result, int)]
            assert 1 == len(winners)
            assert _AT_ONCE - 1 == sum(isinstance(result, DataExistsError) for result in results)
            assert (winners[0], turn) == signature(read(data, f"m{turn}"))

    @clause("DATA-7", "DATA-15", level=Level.CONCURRENT)
    def test_of_many_batches_if_absent_each_payload_has_one_winner(self, data: DataBackend) -> None:
        names = [f"m{number}" for number in range(20)]

        results = race(
            _AT_ONCE,
            lambda racer: data.store_many(
                [(name, signed(racer, 0, 100)) for name in (names if racer % 2 else names[::-1])], if_absent=True
            ),
        )

        stored = [result for result in results if isinstance(result, list)]
        assert _AT_ONCE == len(stored)
        assert len(names) == sum(isinstance(each, int) for result in stored for each in result)
        assert (_AT_ONCE - 1) * len(names) == sum(isinstance(each, DataExistsError) for r in stored for each in r)
        for name in names:
            winner, _ = signature(read(data, name))
            assert 100 == stored[winner][(names if winner % 2 else names[::-1]).index(name)]

    @clause("DATA-20", "DATA-11", level=Level.CONCURRENT)
    def test_no_reader_gets_a_mix_of_two(self, data: DataBackend, profile: Profile) -> None:
        large = min(profile.payload_bytes // 8, 16 * MIB)
        lengths = (large, 100, 2 * MIB + 1, 300_000)
        data.store_data("a", signed(0, 0, large))
        writing = set(range(len(lengths)))

        def run(racer: int) -> set[tuple[int, int]]:
            if racer < len(lengths):
                try:
                    for turn in range(12):
                        size = lengths[(racer + turn) % len(lengths)]
                        assert size == data.store_data("a", signed(racer, turn, size))
                finally:
                    writing.discard(racer)
                return set()
            seen: set[tuple[int, int]] = set()
            while writing:
                seen.add(signature(_read_slowly(data) if racer % 2 else read(data, "a")))
            return seen

        results = race(len(lengths) + 3, run)

        assert [] == [result for result in results if not isinstance(result, set)]
        assert 11 == signature(read(data, "a"))[1]

    @clause("DATA-20", "DATA-8", level=Level.CONCURRENT)
    @pytest.mark.parametrize("size", [1_000, 2 * MIB], ids=["small", "large"])
    def test_a_payload_is_the_one_before_while_another_is_stored(
        self, data: DataBackend, open_data: OpenData, size: int
    ) -> None:
        old, new = signed(0, 0, size), signed(0, 1, size)
        backends = data, open_data()
        data.store_data("a", old)

        def looking() -> Iterator[bytes]:
            for at in range(0, size, size // 4):
                yield new[at : at + size // 4]
                for backend in backends:
                    assert_same(old, finish(partial(read, backend, "a")), f"with {at + size // 4} bytes stored, it")

        assert size == data.store_data("a", looking())
        for backend in backends:
            assert_same(new, read(backend, "a"))

    @clause("DATA-20", "DATA-8", level=Level.CONCURRENT)
    def test_a_payload_that_is_replaced_is_never_missing(self, data: DataBackend) -> None:
        data.store_data("a", signed(0, 0, 200))
        replacing = threading.Event()
        replacing.set()

        def run(racer: int) -> int:
            if racer == 0:
                try:
                    for turn in range(100):
                        data.store_data("a", signed(0, turn, 200 if turn % 2 else 400_000))
                finally:
                    replacing.clear()
                return 0
            last = 0
            while replacing.is_set():
                _, turn = signature(read(data, "a"))
                assert last <= turn, "a payload that had been replaced came back"
                last = turn
                assert {200, 400_000} >= {sizes(data)["a"]}
                (fetched,) = data.fetch_many(["a"], max_bytes=MIB).values()
                signature(fetched)
            return 0

        assert [0, 0, 0] == race(3, run)

    @clause("DATA-24", level=Level.CONCURRENT)
    def test_threads_share_an_instance(self, data: DataBackend, profile: Profile) -> None:
        def run(racer: int) -> int:
            own = f"own-{racer}"
            for turn in range(10):
                size = 20 + turn * 30_000
                assert size == data.store_data(own, signed(racer, turn, size))
                assert (racer, turn) == signature(read(data, own))
                with data.get_data_writer(f"{own}-written") as writer:
                    writer.write(content(turn * 1_000))
                assert [4, 4] == data.store_many([(f"{own}-a", b"many"), (f"{own}-b", b"many")])
                assert_all_same({f"{own}-a": b"many"}, data.fetch_many([f"{own}-a", own], max_bytes=4))
                assert [None] == data.delete_many([f"{own}-a"])
                data.delete_data(f"{own}-b")
                data.delete_data("everybodys")
                data.store_data("everybodys", b"x")
                assert size == sizes(data)[own]
            return racer

        racers = min(profile.racers, 16)
        assert list(range(racers)) == race(racers, run)

        expected = {f"own-{racer}": 20 + 9 * 30_000 for racer in range(racers)}
        expected |= {f"own-{racer}-written": 9_000 for racer in range(racers)}
        assert expected == {name: size for name, size in sizes(data).items() if name != "everybodys"}

    @clause("DATA-14", "DATA-24", level=Level.CONCURRENT)
    def test_many_may_delete_and_store_the_same(self, data: DataBackend, profile: Profile) -> None:
        def run(racer: int) -> int:
            for turn in range(15):
                if racer % 2:
                    data.delete_data("a")
                else:
                    data.store_data("a", signed(racer, turn, 20 + racer))
                with contextlib.suppress(DataNotFoundError):
                    signature(read(data, "a"))
            return racer

        racers = min(profile.racers, 16)
        assert list(range(racers)) == race(racers, run)
        assert {} == sizes(data) or {"a"} == set(sizes(data))


def _read_slowly(data: DataBackend) -> bytes:
    with data.get_data_reader("a") as reader:
        return b"".join(iter(lambda: reader.read(64 * KIB), b""))
