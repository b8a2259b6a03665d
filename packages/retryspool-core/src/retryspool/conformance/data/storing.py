"""Storing and reading back: from any source, of any size, whole or not at all."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from retryspool.conformance.comparing import assert_same
from retryspool.conformance.data.payloads import MIB, broken, content, pieces
from retryspool.conformance.data_suite import DataSuite, OpenData, assert_stored, read, sizes
from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import clause
from retryspool.conformance.profiles import Profile
from retryspool.data import DataBackend, Payload
from retryspool.errors import DataExistsError, DataNotFoundError

__all__ = ["StoringTests"]

_LARGE = content(2 * MIB + 1)

_SOURCES: dict[str, tuple[Callable[[], Any], bytes]] = {
    "bytes": (lambda: b"bytes", b"bytes"),
    "any bytes": (lambda: bytes(range(256)) * 3, bytes(range(256)) * 3),
    "line ends": (lambda: b"\0\r\n\n\r\xff" * 3, b"\0\r\n\n\r\xff" * 3),
    "bytearray": (lambda: bytearray(b"bytearray"), b"bytearray"),
    "memoryview": (lambda: memoryview(b"a view of it")[2:6], b"view"),
    "a file": (lambda: io.BytesIO(b"a file"), b"a file"),
    "a buffered file": (lambda: io.BufferedReader(io.BytesIO(b"buffered")), b"buffered"),
    "a file that stands further on": (lambda: _standing(b"header body", 7), b"body"),
    "a file that gives less than it is asked for": (lambda: _Slow(b"drop by drop"), b"drop by drop"),
    "a list": (lambda: [b"a ", b"list"], b"a list"),
    "a generator": (lambda: (part for part in (b"", b"one ", b"", b"two", b"")), b"one two"),
    "chunks of one buffer": (lambda: _refilled(b"one", b"two", b"six"), b"onetwosix"),
    "no bytes": (lambda: b"", b""),
    "an empty list": (list, b""),
    "an empty file": (io.BytesIO, b""),
    "large bytes": (lambda: _LARGE, _LARGE),
    "a large file": (lambda: io.BytesIO(_LARGE), _LARGE),
    "large chunks": (lambda: pieces(len(_LARGE)), _LARGE),
    "many small chunks": (lambda: (_LARGE[at : at + 999] for at in range(0, len(_LARGE), 999)), _LARGE),
}

_NO_PAYLOADS: tuple[Any, ...] = ("text", "", ["text"], [b"x", 7], [b"x" * MIB, None], 7, None)


class StoringTests(DataSuite):
    @clause("DATA-3", "DATA-4")
    def test_a_payload_is_stored_from_anything_that_holds_bytes(self, data: DataBackend) -> None:
        found: dict[str, object] = {}
        for number, (name, (make, expected)) in enumerate(_SOURCES.items()):
            told = data.store_data(f"s{number}", make())
            same = expected == read(data, f"s{number}")
            found[name] = told, "the same" if same else "another"

        assert {name: (len(expected), "the same") for name, (_, expected) in _SOURCES.items()} == found
        assert {f"s{number}": len(expected) for number, (_, expected) in enumerate(_SOURCES.values())} == sizes(data)

    @clause("DATA-3", "DATA-6")
    def test_what_is_stored_last_is_what_is_read(self, data: DataBackend, profile: Profile, seed: int) -> None:
        def check(parts: list[bytes]) -> None:
            whole = b"".join(parts)
            size = len(whole)
            assert size == data.store_data("a", iter(parts))
            assert_stored({"a": whole}, data)

        parts = st.one_of(st.binary(max_size=100), st.builds(content, st.integers(0, 700_000)))
        explore(st.lists(parts, max_size=5), check, examples=profile.examples, seed=seed)

    @clause("DATA-5", "DATA-4")
    def test_a_payload_may_be_large(self, data: DataBackend, profile: Profile) -> None:
        size = profile.payload_bytes + 1

        assert size == data.store_data("a", pieces(size))

        assert {"a": size} == sizes(data)
        with data.get_data_reader("a") as reader:
            for number, expected in enumerate(pieces(size)):
                assert_same(expected, reader.read(len(expected)), f"MiB {number}")
            assert b"" == reader.read(1)

    @clause("DATA-5")
    def test_a_payload_may_be_of_any_size_around_a_power_of_two(self, data: DataBackend) -> None:
        around = [2**power + more for power in (0, 10, 12, 13, 16, 17, 18, 20, 22) for more in (-1, 0, 1)]
        wrong: list[int] = []
        for size in around:
            told, payload = data.store_data("a", pieces(size)), read(data, "a")
            if (size, size) != (told, len(payload)) or payload != content(size):
                wrong.append(size)

        assert [] == wrong

    @clause("DATA-5")
    def test_an_empty_payload_is_there(self, data: DataBackend) -> None:
        assert 0 == data.store_data("a", b"")

        assert_stored({"a": b""}, data)
        assert {"a": b""} == dict(data.fetch_many(["a"], max_bytes=0))
        with pytest.raises(DataExistsError):
            data.store_data("a", b"x", if_absent=True)
        assert {"a": 0} == sizes(data)

    @clause("DATA-6", "DATA-4")
    def test_a_second_payload_replaces_the_first_be_it_smaller_or_larger(self, data: DataBackend) -> None:
        for size in (3, 3 * MIB, 2 * MIB, 10, 0, 700_000):
            assert size == data.store_data("a", content(size))

            assert_stored({"a": content(size)}, data)

    @clause("DATA-7")
    def test_a_payload_that_is_there_is_not_replaced_if_absent(self, data: DataBackend, open_data: OpenData) -> None:
        assert 5 == data.store_data("a", b"first", if_absent=True)

        for backend in (data, open_data()):
            with pytest.raises(DataExistsError, match="'a'"):
                backend.store_data("a", b"second!", if_absent=True)

        assert_stored({"a": b"first"}, data)

    @clause("DATA-7")
    def test_what_was_deleted_is_absent(self, data: DataBackend) -> None:
        data.store_data("a", content(MIB))
        data.delete_data("a")

        assert 3 == data.store_data("a", b"new", if_absent=True)
        assert_stored({"a": b"new"}, data)

    @clause("DATA-10")
    @pytest.mark.parametrize("size", [0, 10, 3 * MIB])
    def test_an_error_of_the_source_comes_out_and_leaves_what_was_there(self, data: DataBackend, size: int) -> None:
        data.store_data("a", b"kept")

        for message_id, if_absent in (("a", False), ("b", False), ("c", True)):
            for error in (RuntimeError("the source broke"), KeyboardInterrupt("the source broke")):
                with pytest.raises(type(error), match="the source broke"):
                    data.store_data(message_id, broken(size, error), if_absent=if_absent)
        with pytest.raises(OSError, match="the file broke"):
            data.store_data("a", _BrokenFile(size))

        assert_stored({"a": b"kept"}, data)
        assert 2 == data.store_data("c", b"ok", if_absent=True)

    @clause("DATA-10", "DATA-15")
    def test_a_source_that_fails_among_many_stores_nothing(self, data: DataBackend) -> None:
        data.store_data("a", b"kept")

        for message_id in ("a", "b"):
            with pytest.raises(RuntimeError, match="the source broke"):
                data.store_many([(message_id, broken(MIB, RuntimeError("the source broke")))])

        assert_stored({"a": b"kept"}, data)

    @clause("DATA-10")
    def test_what_is_no_payload_is_refused_and_changes_nothing(self, data: DataBackend) -> None:
        data.store_data("a", b"kept")
        taken: list[object] = []

        for message_id in ("a", "b"):
            for wrong in _NO_PAYLOADS:
                with contextlib.suppress(TypeError):
                    data.store_data(message_id, wrong)
                    taken.append(wrong)

        assert [] == taken
        assert_stored({"a": b"kept"}, data)

    @clause("DATA-7", "DATA-10", "DATA-12")
    def test_a_backend_that_has_often_refused_goes_on_working(self, data: DataBackend) -> None:
        """Each refusal gives back what it held: a connection, a transaction, a file."""
        data.store_data("a", b"kept")
        for _ in range(40):
            with pytest.raises(DataExistsError):
                data.store_data("a", b"x", if_absent=True)
            with pytest.raises(RuntimeError):
                data.store_data("a", broken(10, RuntimeError()))
            with pytest.raises(DataNotFoundError):
                data.get_data_reader("missing")

        assert 3 == data.store_data("b", b"new")
        assert_stored({"a": b"kept", "b": b"new"}, data)


class _Slow(io.BytesIO):
    """A file as a socket is one: it gives what has come, and that's less than was asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None or size < 0 else min(size, 3))


class _BrokenFile(io.BytesIO):
    """A file that breaks after so many bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(content(size))

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if found:
            return found
        raise OSError("the file broke")


def _standing(whole: bytes, at: int) -> Payload:
    file = io.BytesIO(whole)
    file.seek(at)
    return file


def _refilled(*parts: bytes) -> Iterator[Any]:
    """Yield the same buffer again and again, with other content."""
    buffer = bytearray(len(parts[0]))
    for part in parts:
        buffer[:] = part
        yield buffer
