"""Closing, deadlines, opening again, findings, old formats."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from retryspool import deadline
from retryspool.conformance.comparing import assert_all_same, assert_same
from retryspool.conformance.data.payloads import CALLS, MIB, content
from retryspool.conformance.data_suite import DataSuite, OpenData, assert_stored, read, sizes
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.stores import Stores
from retryspool.conformance.suite import needs
from retryspool.data import DataBackend, DataFactory, DataInfo
from retryspool.deadline import remaining
from retryspool.errors import BackendClosedError, DeadlineExceededError, StorageError
from retryspool.model import NEVER, NOT_DURABLE, Finding

__all__ = ["LifetimeTests"]

_LIMIT_S = 0.05

_CALLS: dict[str, Callable[[DataBackend], object]] = {
    **{name: lambda data, call=call: call(data, "a") for name, call in CALLS.items()},  # type: ignore[misc]
    "iterate": lambda data: list(data.iter_data()),
    "sweep": lambda data: list(data.sweep(NEVER)),
    "sweep, dry": lambda data: list(data.sweep(NEVER, dry_run=True)),
    "check": lambda data: list(data.check()),
}


def _calls_of(data: DataBackend) -> dict[str, Callable[[DataBackend], object]]:
    """Return all calls to a backend: those that stand on the interface touch nothing, and answer at any time."""
    untouched = {name for name in ("sweep", "check") if getattr(type(data), name) is getattr(DataBackend, name)}
    return {name: call for name, call in _CALLS.items() if name.partition(",")[0] not in untouched}


def _errors(data: DataBackend) -> dict[str, str]:
    """Return, for each call, what kind of error it raises."""
    found: dict[str, str] = {}
    for name, call in _calls_of(data).items():
        try:
            call(data)
            found[name] = "nothing"
        except StorageError as error:
            found[name] = type(error).__name__
    return found


class LifetimeTests(DataSuite):
    # -- closing -------------------------------------------------------------------------------------------------------

    @clause("DATA-23")
    def test_a_closed_backend_refuses_every_call(self, data: DataBackend, open_data: OpenData) -> None:
        data.store_data("a", b"kept")
        data.close()

        assert dict.fromkeys(_calls_of(data), BackendClosedError.__name__) == _errors(data)

        again = open_data()
        assert_stored({"a": b"kept"}, again)

    @clause("DATA-23")
    def test_an_iteration_ends_with_an_error_when_the_backend_is_closed_under_it(self, data: DataBackend) -> None:
        data.store_many([(f"m{number}", b"x") for number in range(50)])
        iteration = data.iter_data()
        next(iteration)

        data.close()

        with pytest.raises(BackendClosedError):
            list(iteration)

    @clause("DATA-23")
    def test_a_backend_may_be_closed_again(self, data: DataBackend) -> None:
        with data as same:
            assert same is data
        data.close()
        with deadline(0):
            data.close()
        with pytest.raises(BackendClosedError):
            data.get_data_reader("a")

    @clause("DATA-23")
    def test_one_instance_is_closed_and_no_other(self, data: DataBackend, open_data: OpenData) -> None:
        other = open_data()
        data.store_data("a", b"x")
        data.close()

        assert_stored({"a": b"x"}, other)
        assert 1 == other.store_data("b", b"y")

    @clause("DATA-23", "DATA-9")
    @pytest.mark.parametrize("size", [10, 2 * MIB])
    def test_a_writer_that_outlives_its_backend_stores_all_or_nothing(
        self, data: DataBackend, open_data: OpenData, size: int
    ) -> None:
        data.store_data("a", b"old")
        writer = data.get_data_writer("a")
        writer.write(content(size))
        data.close()
        expected = content(size)
        try:
            writer.close()
        except StorageError:
            expected = b"old"

        again = open_data()
        assert_stored({"a": expected}, again)

    # -- deadlines -----------------------------------------------------------------------------------------------------

    @clause("DATA-27")
    def test_a_deadline_that_has_passed_stops_every_call_before_any_effect(self, data: DataBackend) -> None:
        data.store_data("a", b"kept")
        before = _everything(data)

        with deadline(0):
            errors = _errors(data)

        assert dict.fromkeys(_calls_of(data), DeadlineExceededError.__name__) == errors
        assert before == _everything(data)
        assert b"kept" == read(data, "a")

    @clause("DATA-27")
    @pytest.mark.parametrize("size", [10, 3 * MIB])
    def test_a_deadline_that_passes_meanwhile_leaves_all_or_nothing(self, data: DataBackend, size: int) -> None:
        data.store_data("a", b"kept")
        expected = content(size)
        try:
            with deadline(_LIMIT_S):
                data.store_data("a", _until_the_deadline(expected))
        except DeadlineExceededError:
            expected = b"kept"

        assert_stored({"a": expected}, data)

    @clause("DATA-27", "DATA-15")
    def test_a_deadline_that_passes_in_a_batch_is_told_for_each(self, data: DataBackend) -> None:
        names = ["a", "b", "c"]
        results: list[int | StorageError]
        try:
            with deadline(_LIMIT_S):
                results = data.store_many([("a", b"1"), ("b", _until_the_deadline(b"22")), ("c", b"333")])
        except DeadlineExceededError as error:
            results = [error] * 3

        told = {name: result for name, result in zip(names, results, strict=True) if isinstance(result, int)}
        assert told == sizes(data)
        assert all(isinstance(each, (int, DeadlineExceededError)) for each in results)

    # -- opening again -------------------------------------------------------------------------------------------------

    @clause("DATA-28", level=Level.DURABLE)
    def test_what_was_stored_is_there_when_the_store_is_opened_again(
        self, data: DataBackend, open_data: OpenData
    ) -> None:
        payloads = {
            "bytes": b"x",
            "empty": b"",
            "large": content(3 * MIB),
            "replaced": b"new",
            "written": b"w" * 70_000,
        }
        data.store_data("replaced", content(MIB))
        data.store_data("deleted", b"gone")
        data.store_many([(name, each) for name, each in payloads.items() if name != "written"])
        with data.get_data_writer("written") as writer:
            writer.write(payloads["written"])
        data.delete_data("deleted")
        before = _everything(data)
        data.close()

        again = open_data()

        assert before == _everything(again)
        assert_stored(payloads, again)

    @clause("DATA-28")
    def test_two_instances_see_what_the_other_has_stored(self, data: DataBackend, open_data: OpenData) -> None:
        other = open_data()
        data.store_data("a", b"x")
        assert_stored({"a": b"x"}, other)
        other.store_data("a", b"yy")
        assert_stored({"a": b"yy"}, data)
        other.delete_data("a")
        assert {} == sizes(data)

    # -- findings and formats ------------------------------------------------------------------------------------------

    @clause("DATA-32")
    def test_a_check_changes_nothing(self, data: DataBackend) -> None:
        data.store_many([("a", b"x"), ("empty", b""), ("large", content(2 * MIB))])
        before = _everything(data)

        findings = list(data.check())

        assert {Finding} >= {type(each) for each in findings}
        assert all(each.subject and each.text for each in findings)
        assert before == _everything(data)
        assert_same(content(2 * MIB), read(data, "large"))

    @clause("DATA-32")
    def test_what_is_not_durable_says_so(self, data: DataBackend) -> None:
        said = NOT_DURABLE.subject in {each.subject for each in data.check()}

        assert said is not data.capabilities.durable

    @clause("DATA-33")
    def test_old_formats_open(self, stores: Stores[DataFactory, DataBackend]) -> None:
        needs(self, "old_formats")
        for name, write in self.old_formats().items():
            factory = stores.new()
            expected = write(stores.namespace_of(factory))
            assert expected, f"format {name!r} was written with nothing in it"
            data = stores.open(factory)

            assert {each: len(payload) for each, payload in expected.items()} == sizes(data), name
            assert_all_same(expected, {each: read(data, each) for each in expected}, f"format {name!r}: payload")

            changed, *_ = expected
            data.store_data(changed, b"new")
            assert (b"new", {**{each: len(p) for each, p in expected.items()}, changed: 3}) == (
                read(data, changed),
                sizes(data),
            ), name
            data.delete_many(list(expected))
            assert {} == sizes(data), name


def _everything(data: DataBackend) -> dict[str, DataInfo]:
    return {info.message_id: info for info in data.iter_data()}


def _until_the_deadline(payload: bytes) -> Iterator[bytes]:
    """Yield a part of a payload, and the rest once the time is over."""
    yield payload[: len(payload) // 2]
    while remaining():
        threading.Event().wait(0.01)
    yield payload[len(payload) // 2 :]
