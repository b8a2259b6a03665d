"""Writers and readers: beyond what every backend promises."""

from __future__ import annotations

import gc
import io
import shutil
import subprocess
import sys
import textwrap
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from retryspool.deadline import deadline
from retryspool.errors import BackendClosedError, DataExistsError, DataNotFoundError, DeadlineExceededError
from retryspool_fs_data import FsDataBackend, FsDataFactory

MIB = 1024 * 1024
PAYLOAD_MIB = 64

both_ways = pytest.mark.usefixtures("temporary_files")


def leftovers(base: Path) -> list[Path]:
    return list((base / ".tmp").iterdir())


def chunks() -> Iterator[bytes]:
    for number in range(PAYLOAD_MIB):
        yield bytes([number]) * MIB


class Slow(io.RawIOBase):
    """A source that gives a payload in odd pieces."""

    def __init__(self) -> None:
        self.left = PAYLOAD_MIB * MIB

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        given = min(self.left, size, 100_001)
        self.left -= given
        return b"x" * given


@both_ways
def test_a_large_payload_takes_little_memory(backend: FsDataBackend) -> None:
    tracemalloc.start()
    try:
        assert PAYLOAD_MIB * MIB == backend.store_data("chunks", chunks())
        assert PAYLOAD_MIB * MIB == backend.store_data("file", Slow(), if_absent=True)  # type: ignore[arg-type]
        with backend.get_data_reader("chunks") as reader, backend.get_data_writer("copy") as writer:
            shutil.copyfileobj(reader, writer)
        assert {} == backend.fetch_many(["chunks", "file"], max_bytes=1000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * MIB
    with backend.get_data_reader("copy") as reader:
        for expected in chunks():
            assert expected == reader.read(MIB)
        assert b"" == reader.read()


def test_a_large_payload_takes_little_memory_of_the_process(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from retryspool_fs_data import FsDataFactory

        def chunks():
            for _ in range(256):
                yield b"x" * (1024 * 1024)

        with FsDataFactory(sys.argv[1], sync="performance").create() as backend:
            backend.store_data("warm", b"x")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            backend.store_data("large", chunks())
            with backend.get_data_reader("large") as reader:
                while reader.read(1024 * 1024):
                    pass
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert int(ran.stdout) < 8 * 1024  # in KiB


def test_many_small_writes_are_few_to_the_system(backend: FsDataBackend) -> None:
    with backend.get_data_writer("abc") as writer:
        for number in range(100_000):
            writer.write(b"%06d" % number)
        assert 600_000 == writer.size

    with backend.get_data_reader("abc") as reader:
        assert b"".join(b"%06d" % number for number in range(100_000)) == reader.read()


def test_a_writer_takes_whatever_is_a_buffer(backend: FsDataBackend) -> None:
    with backend.get_data_writer("abc") as writer:
        assert 8 == writer.write(memoryview(b"01234567").cast("I"))
        assert 3 == writer.write(bytearray(b"abc"))
        with pytest.raises(TypeError):
            writer.write("text")  # type: ignore[arg-type]

    with backend.get_data_reader("abc") as reader:
        assert b"01234567abc" == reader.read()


def test_what_writes_files_can_write_a_payload(backend: FsDataBackend) -> None:
    with backend.get_data_writer("abc") as writer, zipfile.ZipFile(writer, "w") as archive:
        archive.writestr("name", "content")

    with backend.get_data_reader("abc") as reader, zipfile.ZipFile(reader) as archive:
        assert b"content" == archive.read("name")


def test_a_flush_makes_nothing_visible(backend: FsDataBackend) -> None:
    with backend.get_data_writer("abc") as writer:
        writer.write(b"x")
        writer.flush()
        with pytest.raises(DataNotFoundError):
            backend.get_data_reader("abc")


@both_ways
def test_a_writer_that_has_ended_is_closed_as_files_are(backend: FsDataBackend) -> None:
    with backend.get_data_writer("abc") as writer:
        assert not writer.closed
        assert writer.writable()
        assert not writer.readable()

    assert writer.closed
    for use in (lambda: writer.write(b"x"), writer.flush):
        with pytest.raises(ValueError, match="abc"):
            use()


@both_ways
def test_a_writer_that_ends_without_a_payload_leaves_no_file(backend: FsDataBackend, base: Path) -> None:
    for end in ("abort", "exception", "drop"):
        writer = backend.get_data_writer("abc")
        writer.write(b"x" * MIB)
        if end == "abort":
            writer.abort()
        elif end == "exception":
            with pytest.raises(ZeroDivisionError), writer:
                raise ZeroDivisionError
        del writer
        gc.collect()

    assert [] == leftovers(base)
    assert [] == list(backend.iter_data())


@both_ways
def test_a_payload_that_came_meanwhile_is_not_replaced_if_absent(backend: FsDataBackend, base: Path) -> None:
    writer = backend.get_data_writer("abc", if_absent=True)
    writer.write(b"late")
    backend.store_data("abc", b"early")

    with pytest.raises(DataExistsError):
        writer.close()
    writer.close()

    assert [] == leftovers(base)
    assert {"abc": b"early"} == backend.fetch_many(["abc"], max_bytes=10)


@both_ways
def test_a_writer_whose_backend_was_closed_stores_nothing(base: Path) -> None:
    backend = FsDataFactory(base).create()
    writer = backend.get_data_writer("abc")
    writer.write(b"x")
    backend.close()

    with pytest.raises(BackendClosedError):
        writer.write(b"x" * MIB)
    with pytest.raises(BackendClosedError):
        writer.close()

    assert writer.closed
    assert [] == leftovers(base)
    with FsDataFactory(base).create() as anew:
        assert [] == list(anew.iter_data())


@both_ways
def test_a_writer_whose_deadline_has_passed_stores_nothing(backend: FsDataBackend, base: Path) -> None:
    writer = backend.get_data_writer("abc")
    writer.write(b"x")

    with deadline(0):
        with pytest.raises(DeadlineExceededError):
            writer.write(b"x" * MIB)
        with pytest.raises(DeadlineExceededError):
            writer.close()

    assert [] == leftovers(base)
    assert [] == list(backend.iter_data())


def test_a_write_that_a_deadline_cut_in_two_is_never_stored(
    backend: FsDataBackend, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:  # the write has begun
            raise DeadlineExceededError("the deadline has passed")

    writer = backend.get_data_writer("abc")
    monkeypatch.setattr(backend._store, "check", check)
    with pytest.raises(DeadlineExceededError):
        writer.write(b"x" * (64 * MIB))
    with pytest.raises(DeadlineExceededError):
        writer.close()

    assert [] == list(backend.iter_data())
    assert [] == leftovers(base)


def test_an_error_of_the_source_is_passed_on_and_nothing_is_stored(backend: FsDataBackend, base: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        backend.store_data("abc", broken())
    with pytest.raises(OSError, match="the source is gone"):
        backend.store_many([("abd", b"x"), ("abc", broken())])

    assert [] == list(backend.iter_data())
    assert [] == leftovers(base)


def test_of_many_payloads_under_one_id_the_last_one_stays(backend: FsDataBackend) -> None:
    assert [1, 2, 3] == backend.store_many([("abc", b"1"), ("abc", b"22"), ("abc", b"333")])
    assert {"abc": b"333"} == backend.fetch_many(["abc"], max_bytes=3)


def test_a_batch_may_be_larger_than_what_is_held_open_at_a_time(backend: FsDataBackend) -> None:
    items = [(f"m{number}", str(number).encode()) for number in range(200)]

    results = backend.store_many(items, if_absent=True)

    assert [len(content) for _, content in items] == results
    assert dict(items) == backend.fetch_many([name for name, _ in items], max_bytes=10)


def test_an_iteration_ends_when_the_backend_is_closed(base: Path) -> None:
    backend = FsDataFactory(base).create()
    backend.store_many([(f"m{number}", b"x") for number in range(5)])
    iteration = backend.iter_data()
    next(iteration)
    backend.close()

    with pytest.raises(BackendClosedError):
        next(iteration)


def test_a_reader_goes_on_after_the_backend_was_closed(base: Path) -> None:
    backend = FsDataFactory(base).create()
    backend.store_data("a", b"0123456789" * 100_000)
    reader = backend.get_data_reader("a")
    backend.close()

    with reader:
        assert b"0123456789" * 100_000 == reader.read()
