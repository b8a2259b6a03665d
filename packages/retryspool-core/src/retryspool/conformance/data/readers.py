"""Readers: binary files of a payload as it was when they were opened."""

from __future__ import annotations

import email
import io
import shutil
from email.message import EmailMessage
from typing import cast

import pytest

from retryspool.conformance.comparing import assert_same
from retryspool.conformance.data.payloads import KIB, MIB, content
from retryspool.conformance.data_suite import DataSuite, NewData, assert_stored, read
from retryspool.conformance.marks import clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.stores import Stores
from retryspool.conformance.suite import needs
from retryspool.data import DataBackend, DataFactory
from retryspool.errors import BackendError, DataNotFoundError

__all__ = ["ReaderTests"]


class ReaderTests(DataSuite):
    @clause("DATA-11")
    @pytest.mark.parametrize("started", [False, True], ids=["not yet read from", "half read"])
    @pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
    def test_a_reader_has_the_payload_of_its_opening(
        self, data: DataBackend, profile: Profile, *, started: bool, small: bool
    ) -> None:
        whole = content(100 if small else profile.payload_bytes // 4)
        first = 10 if started else 0
        data.store_many([("replaced", whole), ("reversed", whole), ("deleted", whole)])
        readers = {name: data.get_data_reader(name) for name in ("replaced", "reversed", "deleted")}
        for reader in readers.values():
            assert whole[:first] == reader.read(first)

        data.store_data("replaced", b"new")
        data.store_data("reversed", whole[::-1])
        data.delete_data("deleted")

        for name, reader in readers.items():
            with reader:
                assert_same(whole[first:], reader.read(), f"what was {name}")
                assert b"" == reader.read(), name
        assert_stored({"replaced": b"new", "reversed": whole[::-1]}, data)
        with pytest.raises(DataNotFoundError):
            data.get_data_reader("deleted")

    @clause("DATA-11")
    def test_readers_of_one_payload_stand_each_for_itself(self, data: DataBackend) -> None:
        data.store_data("a", b"0123456789")
        with data.get_data_reader("a") as one, data.get_data_reader("a") as other:
            assert (b"0123", b"01") == (one.read(4), other.read(2))
            assert (b"456789", b"23456789") == (one.read(), other.read())

    @clause("DATA-12")
    def test_a_missing_payload_is_told_before_the_first_read(self, data: DataBackend) -> None:
        with pytest.raises(DataNotFoundError, match="message 'a' has no payload"):
            data.get_data_reader("a")

        data.store_data("a", b"x")
        data.delete_data("a")
        with pytest.raises(DataNotFoundError) as missing:
            data.get_data_reader("a")
        assert "a" == missing.value.message_id

    # -- a binary file -------------------------------------------------------------------------------------------------

    @clause("DATA-13")
    def test_a_reader_is_a_readable_file(self, data: DataBackend) -> None:
        data.store_data("a", b"line one\nline two\nrest")

        with _open(data) as file:
            assert (True, False, False) == (file.readable(), file.writable(), file.closed)
            assert isinstance(file.seekable(), bool)
            assert not file.isatty()
            assert (b"", b"line") == (file.read(0), file.read(4))
            assert b" one\n" == file.readline()
            buffer = bytearray(6)
            assert (6, b"line t") == (file.readinto(buffer), bytes(buffer))
            assert [b"wo\n", b"rest"] == list(file)
            assert (b"", b"", b"", b"") == (file.read(), file.read(9), file.readline(), file.read1(9))
            assert 0 == file.readinto(buffer)
        assert file.closed

    @clause("DATA-13")
    def test_a_reader_reads_as_much_as_it_is_asked_for(self, data: DataBackend) -> None:
        """So it says in `io.BufferedIOBase.read`: fewer bytes than asked for mean the end."""
        whole = content(3 * MIB + 5)
        data.store_data("a", whole)
        for ask in (100_003, 256 * KIB + 1, MIB, MIB + 1, 4 * MIB):
            with data.get_data_reader("a") as reader:
                for at in range(0, len(whole), ask):
                    assert_same(whole[at : at + ask], reader.read(ask), f"a read of {ask} bytes at byte {at}")
                assert b"" == reader.read(ask)

    @clause("DATA-13")
    def test_every_way_to_read_reads_the_same(self, data: DataBackend) -> None:
        whole = content(MIB + 7)
        data.store_data("a", whole)
        with data.get_data_reader("a") as reader:
            assert_same(whole, reader.read(-1))
        with _open(data) as file:
            assert_same(whole, file.read(None))
        with _open(data) as file:
            parts = list(iter(lambda: file.read1(70_000), b""))
            assert_same(whole, b"".join(parts))
            assert 70_000 >= max(map(len, parts))
        with _open(data) as file:
            buffer = bytearray(70_000)
            parts = [bytes(buffer[:count]) for count in iter(lambda: file.readinto(buffer), 0)]
            assert_same(whole, b"".join(parts))
        with data.get_data_reader("a") as reader:
            lines = reader.readlines()
            assert_same(whole, b"".join(lines))
            assert list(map(len, io.BytesIO(whole).readlines())) == list(map(len, lines))
        with data.get_data_reader("a") as reader:
            assert_same(whole, reader.read(10) + b"".join(reader))

    @clause("DATA-13")
    def test_a_reader_takes_nothing(self, data: DataBackend) -> None:
        data.store_data("a", b"kept")
        with data.get_data_reader("a") as reader, pytest.raises((io.UnsupportedOperation, AttributeError)):
            reader.write(b"x")
        assert b"kept" == read(data, "a")

    @clause("DATA-13")
    def test_a_reader_that_was_closed_gives_nothing_more(self, data: DataBackend) -> None:
        data.store_data("a", b"0123456789")
        reader = data.get_data_reader("a")
        assert b"01" == reader.read(2)
        reader.close()
        reader.close()

        assert reader.closed
        with pytest.raises(ValueError):  # noqa: PT011 -- no text is promised
            reader.read(2)
        with pytest.raises(ValueError):  # noqa: PT011 -- no text is promised
            reader.readline()

    @clause("DATA-13")
    def test_what_reads_binary_files_reads_a_payload(self, data: DataBackend) -> None:
        mail = EmailMessage()
        mail["Subject"] = "Grüße"
        mail.set_content("Erste Zeile\nzweite Zeile\n")
        mail.add_attachment(content(300 * KIB), maintype="application", subtype="octet-stream")
        data.store_data("mail", mail.as_bytes())
        data.store_data("large", content(3 * MIB))

        sink = io.BytesIO()
        with data.get_data_reader("large") as reader:
            shutil.copyfileobj(reader, sink)
        with _open(data, "large") as file, io.BufferedReader(file) as buffered:
            assert content(3 * MIB)[:5] == buffered.peek(5)[:5]
            assert_same(content(3 * MIB), buffered.read())
        with data.get_data_reader("mail") as reader, io.TextIOWrapper(reader, "ascii", newline="") as text:
            assert_same(mail.as_string().encode(), text.read().encode())
        with data.get_data_reader("mail") as reader:
            parsed = email.message_from_binary_file(reader)

        assert_same(content(3 * MIB), sink.getvalue())
        assert_same(mail.as_bytes(), parsed.as_bytes())

    @clause("DATA-13")
    def test_a_payload_is_stored_from_the_reader_of_another(self, data: DataBackend, new_data: NewData) -> None:
        data.store_data("a", content(2 * MIB + 3))
        other = new_data()

        with data.get_data_reader("a") as reader:
            assert 2 * MIB + 3 == data.store_data("b", reader)
        with data.get_data_reader("a") as reader:
            assert 2 * MIB + 3 == other.store_data("a", reader)

        assert_same(content(2 * MIB + 3), read(data, "b"))
        assert_same(content(2 * MIB + 3), read(other, "a"))

    @clause("DATA-13")
    def test_a_backend_goes_on_working_when_readers_are_closed_half_read(self, data: DataBackend) -> None:
        """Each gives back what it held: a connection, a transaction, a file."""
        data.store_data("a", content(2 * MIB))
        for _ in range(40):
            with data.get_data_reader("a") as reader:
                assert content(MIB)[:10] == reader.read(10)

        assert 3 == data.store_data("a", b"new")
        assert_stored({"a": b"new"}, data)

    # -- damage --------------------------------------------------------------------------------------------------------

    @clause("DATA-21")
    @pytest.mark.parametrize("size", [100, 3 * MIB], ids=["small", "large"])
    def test_a_payload_that_lost_a_part_never_looks_whole(
        self, stores: Stores[DataFactory, DataBackend], data_factory: DataFactory, size: int
    ) -> None:
        needs(self, "raw_get")
        needs(self, "raw_put")
        namespace = stores.namespace_of(data_factory)
        data = stores.open(data_factory)
        whole = content(size)
        data.store_data("other", whole)
        for left in (0, 1, size // 2, size - 1):
            data.store_data("a", whole)
            stored = self.raw_get(namespace, "a")
            self.raw_put(namespace, "a", stored[: len(stored) - size + left])

            told = {info.message_id: info.size for info in data.iter_data()}.get("a")
            found = _read_or_refused(data)

            if found is not None:
                length, looks_whole = len(found), found == whole
                assert (told, False) == (length, looks_whole)
        assert_same(whole, read(data, "other"))


def _read_or_refused(data: DataBackend) -> bytes | None:
    try:
        return read(data, "a")
    except BackendError:
        return None


def _open(data: DataBackend, message_id: str = "a") -> io.BufferedIOBase:
    """Open a reader for what `BinaryIO` doesn't have."""
    reader = data.get_data_reader(message_id)
    assert isinstance(reader, io.BufferedIOBase), "a reader is no binary file of Python's"
    return cast("io.BufferedIOBase", reader)
