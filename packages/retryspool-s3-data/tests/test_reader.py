"""Readers: whole or in a stream, over connections that break, of payloads that change meanwhile."""

from __future__ import annotations

import io
import os
import time
import zlib
from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from s3_answers import NO_REPLY, Answer, AnsweringServer, Asked, error

from retryspool import deadline
from retryspool.errors import BackendError, BackendUnavailableError, CorruptDataError, DeadlineExceededError
from retryspool_s3_data.backend import S3DataBackend

MIB = 1024 * 1024
CONTENT = os.urandom(3 * MIB + 5)


class Object:
    """Serves one object, whole or from where it's asked for, and breaks each answer off after some bytes."""

    def __init__(self, break_after: int, *, then: Answer | None = None, headers: dict[str, str] | None = None) -> None:
        self.break_after = break_after
        self.then = then
        self.headers = headers or {}

    def __call__(self, asked: Asked) -> Answer | None:
        start = int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start and self.then is not None:
            return self.then
        headers = {"ETag": '"v1"', **self.headers}
        return Answer(206 if start else 200, CONTENT[start:], headers, cut_after=self.break_after)


@pytest.mark.parametrize("read", ["at once", "in pieces", "line by line"])
def test_a_stream_goes_on_where_its_connection_broke(read: str) -> None:
    with (
        AnsweringServer(Object(MIB)) as server,
        server.factory.create() as data,
        data.get_data_reader("a") as reader,
    ):
        if read == "at once":
            content = reader.read()
        elif read == "in pieces":
            content = b"".join(iter(lambda: reader.read(100_003), b""))
        else:
            content = b"".join(reader)
    assert CONTENT == content
    asked = [(each.headers.get("Range"), each.headers.get("If-Match")) for each in server.asked]
    assert [(None, None), *[(f"bytes={n * MIB}-", '"v1"') for n in (1, 2, 3)]] == asked


def test_a_stream_that_goes_on_asks_for_the_same_version_where_the_bucket_keeps_them() -> None:
    with (
        AnsweringServer(Object(2 * MIB, headers={"x-amz-version-id": "7"})) as server,
        server.factory.create() as data,
        data.get_data_reader("a") as reader,
    ):
        assert CONTENT == reader.read()
    assert ["GET /bucket/a.data", "GET /bucket/a.data?versionId=7"] == [each.operation for each in server.asked]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (error(412, "PreconditionFailed"), r"broke after 1048576 of 3145733 bytes, and the payload was replaced since"),
        (error(404, "NoSuchKey"), "was deleted since; read it again"),
    ],
)
def test_a_stream_never_goes_on_with_another_payload(answer: Answer, says: str) -> None:
    with (
        AnsweringServer(Object(MIB, then=answer)) as server,
        server.factory.create() as data,
        data.get_data_reader("a") as reader,
        pytest.raises(BackendError, match=says),
    ):
        reader.read()


def test_a_stream_that_breaks_without_a_byte_each_time_is_given_up() -> None:
    with (
        AnsweringServer(Object(0)) as server,
        replace(server.factory, max_attempts=2).create() as data,
        data.get_data_reader("a") as reader,
        pytest.raises(BackendUnavailableError) as raised,
    ):
        reader.read()
    assert "none" == raised.value.outcome
    assert 2 == len(server.asked)


@pytest.mark.parametrize("size", [10, 2 * MIB])
def test_a_payload_that_was_damaged_on_its_way_is_never_whole(size: int) -> None:
    checksum = b64encode(zlib.crc32(CONTENT[:size]).to_bytes(4)).decode()
    damaged = CONTENT[: size - 1] + bytes([CONTENT[size - 1] ^ 1])
    answer = Answer(200, damaged, {"ETag": '"x"', "x-amz-checksum-crc32": checksum})
    with AnsweringServer(lambda _: answer) as server, server.factory.create() as data, pytest.raises(CorruptDataError):
        data.get_data_reader("a").read()


def test_a_stream_heeds_the_deadline_of_its_read_and_not_that_of_its_opening(backend: S3DataBackend) -> None:
    backend.store_data("a", CONTENT)
    with deadline(30):
        reader = backend.get_data_reader("a")
    with reader:
        assert CONTENT == reader.read()
    with deadline(0.3), backend.get_data_reader("a") as reader:
        assert CONTENT[:10] == reader.read(10)
        time.sleep(0.3)
        with pytest.raises(DeadlineExceededError):
            reader.read()


def test_a_read_that_failed_leaves_no_hole_to_whom_reads_on(backend: S3DataBackend) -> None:
    """BufferedReader forgets what it had when the read below it fails."""
    backend.store_data("a", CONTENT)
    with backend.get_data_reader("a") as reader:
        assert CONTENT[:10] == reader.read(10)
        with deadline(0), pytest.raises(DeadlineExceededError):
            reader.read()
        for _ in range(2):
            with pytest.raises(DeadlineExceededError):
                reader.read()


def test_readers_that_are_closed_early_leave_the_backend_working(backend: S3DataBackend) -> None:
    sizes = {"small": 10, "little-left": MIB + 100, "much-left": len(CONTENT)}
    for name, size in sizes.items():
        backend.store_data(name, CONTENT[:size])

    for _ in range(20):
        for name, size in sizes.items():
            with backend.get_data_reader(name) as reader:
                assert CONTENT[: min(size, MIB)] == reader.read(MIB)
    assert {"small": CONTENT[:10]} == backend.fetch_many(list(sizes), max_bytes=10)


def test_a_large_payload_can_be_read_after_it_was_replaced_or_deleted(backend: S3DataBackend) -> None:
    content = os.urandom(12 * MIB)
    backend.store_many([("replaced", content), ("deleted", content)])

    with backend.get_data_reader("replaced") as replaced, backend.get_data_reader("deleted") as deleted:
        backend.store_data("replaced", b"new")
        backend.delete_data("deleted")

        assert content == replaced.read()
        assert content == deleted.read()


def test_a_reader_is_not_written_to(backend: S3DataBackend) -> None:
    backend.store_data("small", b"x")
    backend.store_data("large", CONTENT)

    for name in ("small", "large"):
        with backend.get_data_reader(name) as reader:
            assert not reader.writable()
            with pytest.raises(io.UnsupportedOperation):
                reader.write(b"x")
        with pytest.raises(ValueError, match="closed"):
            reader.read()


def test_a_listing_that_breaks_off_is_not_taken_for_an_empty_one() -> None:
    body = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    for cut in (0, 10, len(body) - 1):
        answer: Any = Answer(200, body, cut_after=cut)
        with (
            AnsweringServer(lambda _, answer=answer: answer) as server,
            replace(server.factory, max_attempts=1).create() as data,
            pytest.raises(BackendUnavailableError),
        ):
            list(data.iter_data())


def test_a_connection_that_ends_in_the_headers_of_a_reply_has_not_replied() -> None:
    headers = Answer(200, raw=b"HTTP/1.1 200 OK\r\nServer: it\r\n")
    with (
        AnsweringServer(lambda _: headers) as server,
        replace(server.factory, max_attempts=1).create() as data,
        pytest.raises(BackendUnavailableError),
    ):
        list(data.iter_data())

    answers = iter([headers, NO_REPLY, Answer(200, CONTENT[:5], {"ETag": '"x"'})])
    with (
        AnsweringServer(lambda _: next(answers)) as server,
        server.factory.create() as data,
        data.get_data_reader("a") as reader,
    ):
        assert CONTENT[:5] == reader.read()
