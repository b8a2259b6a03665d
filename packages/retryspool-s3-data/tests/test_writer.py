"""Writers: one request or many, what is left of those that don't end well, memory."""

from __future__ import annotations

import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from retryspool.deadline import deadline
from retryspool.errors import BackendClosedError, BackendError, DataNotFoundError, DeadlineExceededError
from retryspool_s3_data import S3DataFactory
from retryspool_s3_data.backend import S3DataBackend
from retryspool_s3_data.multipart import part_bytes_of

MIB = 1024 * 1024
PART = 5 * MIB
FUTURE = datetime.max.replace(tzinfo=UTC)


def uploads(client: Any, factory: S3DataFactory) -> list[str]:
    answer = client.list_multipart_uploads(Bucket=factory.bucket, Prefix=f"{factory.prefix}/")
    return [upload["Key"] for upload in answer.get("Uploads", [])]


def soon(holds: Callable[[], bool]) -> bool:
    """Wait for what happens in the background."""
    until = time.monotonic() + 20
    while not holds() and time.monotonic() < until:
        time.sleep(0.05)
    return holds()


def parts_of(client: Any, backend: S3DataBackend, message_id: str) -> int:
    """Return in how many parts a payload was uploaded, 0 for a single request: S3 tells it in the ETag."""
    etag = client.head_object(**backend._store.at(message_id))["ETag"].strip('"')
    return int(etag.partition("-")[2] or 0)


@pytest.mark.parametrize(
    ("size", "parts"), [(0, 0), (1, 0), (PART, 0), (PART + 1, 2), (2 * PART, 2), (2 * PART + 1, 3)]
)
def test_what_fits_in_a_part_is_one_request(backend: S3DataBackend, client: Any, size: int, parts: int) -> None:
    content = os.urandom(size)

    for number, data in enumerate([content, io.BytesIO(content), [content[: size // 2], content[size // 2 :]]]):
        assert size == backend.store_data(f"m{number}", data)
        assert parts == parts_of(client, backend, f"m{number}")
        with backend.get_data_reader(f"m{number}") as reader:
            assert content == reader.read()


def test_parts_grow_so_that_the_largest_object_needs_no_more_than_s3_takes() -> None:
    assert [8 * MIB, 8 * MIB, 16 * MIB] == [part_bytes_of(8 * MIB, number) for number in (1, 1000, 1001)]
    assert 5 * 1024**4 <= sum(part_bytes_of(8 * MIB, number) for number in range(1, 10_001))
    assert all(PART <= part_bytes_of(PART, number) <= 5 * 1024**3 for number in range(1, 10_001))


def test_many_small_writes_are_few_requests(backend: S3DataBackend, client: Any) -> None:
    with backend.get_data_writer("a") as writer:
        for number in range(100_000):
            writer.write(b"%06d" % number)
    assert 0 == parts_of(client, backend, "a")
    with backend.get_data_reader("a") as reader:
        assert b"".join(b"%06d" % number for number in range(100_000)) == reader.read()


@pytest.mark.parametrize("end", ["abort", "exception", "drop", "backend closed", "deadline", "source"])
def test_a_writer_that_ends_without_a_payload_leaves_no_upload(factory: S3DataFactory, end: str) -> None:
    with factory.create() as other:
        client: Any = other._store.client
        backend = factory.create()
        writer = backend.get_data_writer("a")
        writer.write(b"x" * (3 * PART))
        assert [f"{factory.prefix}/a.data"] == uploads(client, factory)
        if end == "abort":
            writer.abort()
        elif end == "exception":
            with pytest.raises(ZeroDivisionError), writer:
                raise ZeroDivisionError
        elif end == "backend closed":
            backend.close()
            with pytest.raises(BackendClosedError):
                writer.close()
        elif end == "deadline":
            with deadline(0), pytest.raises(DeadlineExceededError):
                writer.close()
        elif end == "source":
            writer.abort()

            def broken() -> Iterator[bytes]:
                yield b"x" * (2 * PART)
                raise OSError("the source is gone")

            with pytest.raises(OSError, match="the source is gone"):
                backend.store_data("a", broken())
        del writer
        gc.collect()
        assert soon(lambda: not uploads(client, factory))
        backend.close()
        assert [] == list(other.iter_data())


def test_a_part_that_can_not_be_sent_fails_the_writer_for_good(factory: S3DataFactory) -> None:
    with replace(factory, max_attempts=1).create() as backend:
        writer = backend.get_data_writer("a")
        writer.write(b"x" * (PART + 1))
        upload = writer._upload
        assert upload is not None
        upload._which = {**upload._which, "UploadId": "another"}
        with pytest.raises(BackendError):  # noqa: PT012 -- of many writes, any may be the first to hear of it
            for _ in range(20):
                writer.write(b"x" * PART)
        with pytest.raises(BackendError):
            writer.write(b"x")
        with pytest.raises(BackendError):
            writer.close()
        with pytest.raises(DataNotFoundError):
            backend.get_data_reader("a")
        assert writer.closed
        assert [f"{factory.prefix}/a.data"] == uploads(backend._store.client, factory)


def test_a_deadline_bounds_the_wait_for_parts_and_not_the_parts(backend: S3DataBackend) -> None:
    writer = backend.get_data_writer("a")
    with deadline(30):
        writer.write(b"x" * (PART + 1))
    with writer:
        writer.write(b"x" * PART)
    assert {"a": 2 * PART + 1} == {info.message_id: info.size for info in backend.iter_data()}


def test_what_a_killed_process_was_writing_is_invisible_and_swept(factory: S3DataFactory) -> None:
    script = """
        import pickle, sys, time
        factory = pickle.load(sys.stdin.buffer)
        backend = factory.create()
        writer = backend.get_data_writer("killed")
        writer.write(b"x" * (3 * factory.part_bytes))
        backend._store.client.list_parts(**writer._upload._which)
        print("written", flush=True)
        time.sleep(60)
    """

    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(pickle.dumps(factory))
        child.stdin.close()
        assert b"written\n" == child.stdout.readline()
        child.send_signal(signal.SIGKILL)

    with factory.create() as backend, factory.in_namespace("below").create() as below:
        assert [] == list(backend.iter_data())
        with pytest.raises(DataNotFoundError):
            backend.get_data_reader("killed")
        assert [] == list(backend.sweep(datetime(2000, 1, 1, tzinfo=UTC)))
        assert [] == list(below.sweep(FUTURE))
        for dry_run in (True, False):
            (found,) = backend.sweep(FUTURE, dry_run=dry_run)
            assert "killed" == found.message_id
            assert found.size % PART == 0
            assert timedelta(0) == found.modified.utcoffset()
        assert [] == list(backend.sweep(FUTURE))


def test_a_sweep_leaves_an_upload_alone_that_goes_on(seaweed: S3DataFactory) -> None:
    """On SeaweedFS; Moto's server says of each upload that it began in 2010."""
    with replace(seaweed, part_bytes=PART).create() as backend, backend.get_data_writer("a") as writer:
        writer.write(b"x" * (2 * PART + 1))
        assert [] == list(backend.sweep(datetime.now(UTC) - timedelta(minutes=1)))


def test_a_large_payload_takes_little_memory_of_the_process(seaweed: S3DataFactory) -> None:
    script = """
        import pickle, sys
        factory = pickle.load(sys.stdin.buffer)

        def most() -> int:
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))

        def chunks():
            for _ in range(160):
                yield b"x" * (1024 * 1024)

        with factory.create() as backend:
            backend.store_data("warm", b"x")
            backend.get_data_reader("warm").read()
            before = most()
            backend.store_data("large", chunks())
            stored = most()
            with backend.get_data_reader("large") as reader:
                while reader.read(1024 * 1024):
                    pass
            assert {} == backend.fetch_many(["large"], max_bytes=1000)
            print(stored - before, most() - before)
    """

    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], input=pickle.dumps(seaweed), capture_output=True, check=True
    )

    stored, read = (int(kib) for kib in ran.stdout.split())
    assert stored < 64 * 1024
    assert read < 64 * 1024
