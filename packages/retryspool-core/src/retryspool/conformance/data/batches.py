"""Many payloads in one call."""

from __future__ import annotations

import io

from retryspool.conformance.comparing import assert_all_same
from retryspool.conformance.data.payloads import MIB, content
from retryspool.conformance.data_suite import DataSuite, assert_stored, sizes
from retryspool.conformance.marks import clause
from retryspool.conformance.profiles import Profile
from retryspool.data import DataBackend
from retryspool.errors import DataExistsError

__all__ = ["DataBatchTests"]


class DataBatchTests(DataSuite):
    @clause("DATA-15", "DATA-7")
    def test_many_are_stored_with_a_result_each(self, data: DataBackend) -> None:
        data.store_data("b", b"kept")

        results = data.store_many(
            [("a", b"1"), ("b", b"22"), ("c", io.BytesIO(b"333")), ("a", [b"4"]), ("d", b"")], if_absent=True
        )

        assert [1, DataExistsError, 3, DataExistsError, 0] == [
            result if isinstance(result, int) else type(result) for result in results
        ]
        assert_stored({"a": b"1", "b": b"kept", "c": b"333", "d": b""}, data)

    @clause("DATA-15", "DATA-6")
    def test_many_replace_what_was_there(self, data: DataBackend) -> None:
        data.store_data("a", b"old")

        assert [3, 0, 5] == data.store_many(iter([("a", b"new"), ("b", b""), ("a", b"newer")]))

        assert_stored({"a": b"newer", "b": b""}, data)

    @clause("DATA-15", "DATA-4")
    def test_small_and_large_ones_are_stored_together(self, data: DataBackend) -> None:
        wanted = {f"m{number}": content(size) for number, size in enumerate((0, 1, 3 * MIB, 70_000, 2 * MIB, 5))}

        assert [len(each) for each in wanted.values()] == data.store_many(list(wanted.items()))

        assert_stored(wanted, data)

    @clause("DATA-15")
    def test_a_batch_may_be_long(self, data: DataBackend, profile: Profile) -> None:
        names = [f"m{number}" for number in range(profile.messages + 23)]

        assert [3] * len(names) == data.store_many((name, b"one") for name in names)
        assert_all_same(dict.fromkeys(names, b"one"), data.fetch_many(names, max_bytes=3))
        assert [None] * len(names) == data.delete_many(names)
        assert {} == sizes(data)

    @clause("DATA-16")
    def test_the_small_ones_among_many_are_fetched(self, data: DataBackend) -> None:
        for message_id, size in {"none": 0, "small": 9, "limit": 10, "over": 11, "large": 500_000}.items():
            data.store_data(message_id, b"x" * size)

        fetched = data.fetch_many(["large", "limit", "missing", "none", "over", "small", "small"], max_bytes=10)

        assert_all_same({"limit": b"x" * 10, "none": b"", "small": b"x" * 9}, fetched)
        assert_all_same({"none": b""}, data.fetch_many(["none", "small"], max_bytes=0))

    @clause("DATA-16", "DATA-3")
    def test_what_is_fetched_is_what_is_read(self, data: DataBackend) -> None:
        wanted = {f"m{number}": content(size) for number, size in enumerate((1, 4_096, 70_000, 300_000, 2 * MIB + 1))}
        data.store_many(list(wanted.items()))

        assert_all_same(wanted, data.fetch_many(list(wanted), max_bytes=2 * MIB + 1))
        small = {"m0": wanted["m0"], "m1": wanted["m1"]}
        assert_all_same(small, data.fetch_many(list(wanted), max_bytes=4_096))

    @clause("DATA-15", "DATA-14")
    def test_many_are_deleted_whether_they_are_there_or_not(self, data: DataBackend) -> None:
        data.store_many([(name, b"x") for name in "abcd"])

        assert [None, None, None, None] == data.delete_many(["a", "missing", "c", "a"])

        assert {"b": 1, "d": 1} == sizes(data)

    @clause("DATA-15", "DATA-16")
    def test_none_at_all_are_many_too(self, data: DataBackend) -> None:
        data.store_data("a", b"kept")

        assert ([], {}, []) == (data.store_many([]), dict(data.fetch_many([], max_bytes=9)), data.delete_many([]))

        assert {"a": 4} == sizes(data)
