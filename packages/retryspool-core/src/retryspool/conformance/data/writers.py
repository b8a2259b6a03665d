"""Writers: binary files whose content appears whole at the end, or never."""

from __future__ import annotations

import gc
import io
import shutil
from array import array

import pytest

from retryspool.conformance.comparing import assert_all_same, assert_same
from retryspool.conformance.data.payloads import MIB, content, pieces
from retryspool.conformance.data_suite import DataSuite, OpenData, assert_stored, read, sizes
from retryspool.conformance.marks import clause
from retryspool.conformance.profiles import Profile
from retryspool.data import DataBackend, DataWriter
from retryspool.errors import DataExistsError, DataNotFoundError

__all__ = ["WriterTests"]


class WriterTests(DataSuite):
    # -- visible at the end --------------------------------------------------------------------------------------------

    @clause("DATA-8")
    @pytest.mark.parametrize("size", [0, 10, 3 * MIB])
    def test_nothing_is_visible_before_close(self, data: DataBackend, open_data: OpenData, size: int) -> None:
        data.store_data("old", b"old")
        new, old = data.get_data_writer("new"), data.get_data_writer("old")
        for writer in (new, old):
            assert size == writer.write(content(size))
            writer.flush()

        for backend in (data, open_data()):
            assert_stored({"old": b"old"}, backend)
            with pytest.raises(DataNotFoundError):
                backend.get_data_reader("new")
            assert_all_same({"old": b"old"}, backend.fetch_many(["old", "new"], max_bytes=MIB * 4))

        for writer in (new, old):
            writer.close()
        assert_stored({"old": content(size), "new": content(size)}, data)

    @clause("DATA-7", "DATA-8")
    def test_a_payload_that_is_still_written_is_absent(self, data: DataBackend) -> None:
        writer = data.get_data_writer("a")
        writer.write(b"written")

        assert 6 == data.store_data("a", b"stored", if_absent=True)
        assert b"stored" == read(data, "a")

        writer.close()
        assert b"written" == read(data, "a")

    @clause("DATA-4")
    def test_a_writer_tells_its_size(self, data: DataBackend) -> None:
        with data.get_data_writer("a") as writer:
            assert 0 == writer.size
            writer.write(b"four")
            assert 4 == writer.size
            writer.writelines([b"five!", memoryview(b"six...")])
            writer.write(content(2 * MIB))
            assert 15 + 2 * MIB == writer.size
        assert 15 + 2 * MIB == writer.size
        assert {"a": 15 + 2 * MIB} == sizes(data)

    @clause("DATA-5")
    def test_an_empty_writer_stores_an_empty_payload(self, data: DataBackend) -> None:
        data.get_data_writer("a").close()
        with data.get_data_writer("b") as writer:
            writer.write(b"")

        assert_stored({"a": b"", "b": b""}, data)

    @clause("DATA-6")
    def test_of_two_writers_the_last_one_closed_stays(self, data: DataBackend) -> None:
        first, second = data.get_data_writer("a"), data.get_data_writer("a")
        second.write(b"second")
        first.write(content(MIB))
        second.close()
        assert_stored({"a": b"second"}, data)
        first.close()

        assert_stored({"a": content(MIB)}, data)

    @clause("DATA-7")
    def test_of_two_writers_if_absent_one_stays(self, data: DataBackend) -> None:
        first, second = data.get_data_writer("a", if_absent=True), data.get_data_writer("a", if_absent=True)
        second.write(b"second")
        first.write(b"first")
        second.close()
        with pytest.raises(DataExistsError, match="'a'"):
            first.close()
        first.abort()

        assert first.closed
        assert_stored({"a": b"second"}, data)

    @clause("DATA-7")
    def test_a_writer_if_absent_leaves_what_is_there(self, data: DataBackend) -> None:
        data.store_data("a", b"kept")

        with pytest.raises(DataExistsError, match="'a'"), data.get_data_writer("a", if_absent=True) as writer:
            writer.write(b"another")

        assert_stored({"a": b"kept"}, data)

    # -- or never ------------------------------------------------------------------------------------------------------

    @clause("DATA-9")
    @pytest.mark.parametrize("if_absent", [False, True])
    def test_an_aborted_writer_leaves_what_was_there(
        self, data: DataBackend, profile: Profile, *, if_absent: bool
    ) -> None:
        data.store_data("old", b"old")
        for message_id, size in (("old", 10), ("new", 10), ("large", profile.payload_bytes)):
            if message_id == "old" and if_absent:
                continue
            writer = data.get_data_writer(message_id, if_absent=if_absent)
            writer.writelines(pieces(size))
            writer.abort()
            assert writer.closed
            writer.abort()
            writer.close()

        assert_stored({"old": b"old"}, data)
        for message_id in ("new", "large"):
            with pytest.raises(DataNotFoundError):
                data.get_data_reader(message_id)
            assert 1 == data.store_data(message_id, b"x", if_absent=True)

    @clause("DATA-9")
    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
    def test_an_exception_inside_with_aborts(self, data: DataBackend, error: type[BaseException]) -> None:
        data.store_data("old", b"old")
        for message_id in ("old", "new"):
            for half in (b"half of", content(2 * MIB)):
                with pytest.raises(error), data.get_data_writer(message_id) as writer:  # noqa: PT012 -- the block is what is tested
                    writer.write(half)
                    raise error
                assert writer.closed

        assert_stored({"old": b"old"}, data)

    @clause("DATA-9")
    def test_a_writer_that_is_dropped_leaves_nothing(self, data: DataBackend) -> None:
        data.store_data("old", b"old")
        for message_id in ("old", "new"):
            for half in (b"half of", content(2 * MIB)):
                writer = data.get_data_writer(message_id)
                writer.write(half)
                del writer
        gc.collect()

        assert_stored({"old": b"old"}, data)
        assert 1 == data.store_data("new", b"x", if_absent=True)

    @clause("DATA-9")
    def test_a_backend_goes_on_working_after_many_aborts(self, data: DataBackend) -> None:
        """Each gives back what it held: a connection, a transaction, a file."""
        for _ in range(40):
            writer = data.get_data_writer("a")
            writer.write(b"x")
            writer.abort()

        assert 3 == data.store_data("a", b"new", if_absent=True)
        assert {"a": 3} == sizes(data)

    # -- a binary file -------------------------------------------------------------------------------------------------

    @clause("DATA-13")
    def test_a_writer_is_a_writable_file(self, data: DataBackend) -> None:
        with data.get_data_writer("a") as writer:
            assert isinstance(writer, DataWriter)
            assert (True, False, False) == (writer.writable(), writer.readable(), writer.closed)
            assert not writer.isatty()
            assert isinstance(writer.seekable(), bool)
            writer.flush()
            with pytest.raises(io.UnsupportedOperation):
                writer.read()
            with pytest.raises(TypeError):
                writer.write("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
            assert 2 == writer.write(b"ok")
        assert writer.closed
        assert b"ok" == read(data, "a")

    @clause("DATA-13")
    def test_whatever_holds_bytes_is_written(self, data: DataBackend) -> None:
        numbers = array("I", [1, 2, 3])
        with data.get_data_writer("a") as writer:
            assert 5 == writer.write(b"bytes")
            assert 9 == writer.write(bytearray(b"bytearray"))
            assert 4 == writer.write(memoryview(b"a view of it")[2:6])
            assert 3 * numbers.itemsize == writer.write(numbers)
            assert 6 == writer.write(memoryview(b"a-b-c-d-e-f-")[::2].tobytes())
            writer.writelines([b"one", bytearray(b"two")])

        expected = b"bytesbytearrayview" + numbers.tobytes() + b"abcdefonetwo"
        assert_stored({"a": expected}, data)

    @clause("DATA-13")
    @pytest.mark.parametrize("size", [10, 2 * MIB])
    def test_a_buffer_may_be_used_again_once_it_was_written(self, data: DataBackend, size: int) -> None:
        buffer = bytearray(size)
        with data.get_data_writer("a") as writer:
            for letter in b"abc":
                buffer[:] = bytes([letter]) * size
                writer.write(buffer)
            buffer[:] = bytes(size)

        assert_same(b"a" * size + b"b" * size + b"c" * size, read(data, "a"))

    @clause("DATA-13")
    def test_a_writer_may_be_closed_again(self, data: DataBackend) -> None:
        with data.get_data_writer("a") as writer:
            writer.write(b"x")
            writer.close()
        assert b"x" == read(data, "a")
        data.delete_data("a")

        writer.close()
        writer.abort()

        assert {} == sizes(data)

    @clause("DATA-13")
    @pytest.mark.parametrize("end", ["close", "abort"])
    def test_a_writer_that_has_ended_takes_nothing_more(self, data: DataBackend, end: str) -> None:
        writer = data.get_data_writer("a")
        writer.write(b"x")
        getattr(writer, end)()
        before = sizes(data)

        with pytest.raises(ValueError):  # noqa: PT011 -- no text is promised
            writer.write(b"y")
        with pytest.raises(ValueError):  # noqa: PT011 -- no text is promised
            writer.writelines([b"y"])
        writer.close()

        assert before == sizes(data)

    @clause("DATA-13")
    def test_what_writes_binary_files_writes_a_payload(self, data: DataBackend) -> None:
        with data.get_data_writer("copied") as writer:
            shutil.copyfileobj(io.BytesIO(content(3 * MIB)), writer)
        text = io.TextIOWrapper(data.get_data_writer("text"), encoding="utf-8", newline="\n")
        text.write("grüße\n" * 10_000)
        text.close()

        assert_same(content(3 * MIB), read(data, "copied"))
        assert_same("grüße\n".encode() * 10_000, read(data, "text"))
