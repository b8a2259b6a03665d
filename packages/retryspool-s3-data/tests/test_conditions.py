"""`if_absent`: a write under a condition whose reply was lost, or that met others, tells what has become of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from s3_answers import NO_REPLY, Answer, AnsweringServer, Asked, error

from retryspool import deadline
from retryspool.errors import BackendError, BackendUnavailableError, DataExistsError, DeadlineExceededError
from retryspool_s3_data.backend import S3DataBackend

MIB = 1024 * 1024
MARK = "x-amz-meta-retryspool-write"
STORED = Answer(200, headers={"ETag": '"x"'})
CREATED = Answer(200, b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>")
COMPLETED = Answer(200, b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
TAKEN = error(412, "PreconditionFailed")
CONFLICT = error(409, "ConditionalRequestConflict")
MISSING = Answer(404)


class Bucket:
    """Answers writes from a list, uploads as S3 does, and tells a mark: of the first write, another's, or none."""

    def __init__(self, *answers: Answer | None, mark: str | None = "its own") -> None:
        self.answers: Iterator[Answer | None] = iter(answers)
        self.mark = mark
        self.written: list[Asked] = []

    def __call__(self, asked: Asked) -> Answer | None:
        if MARK in asked.headers and self.mark == "its own":
            self.mark = asked.headers[MARK]
        if asked.operation.startswith("HEAD"):
            return MISSING if self.mark is None else Answer(200, headers={MARK: self.mark, "ETag": '"x"'})
        if asked.operation.endswith("?uploads"):
            return CREATED
        if "partNumber" in asked.operation:
            return STORED
        if asked.operation.startswith("DELETE"):
            return Answer(204)
        self.written.append(asked)
        return next(self.answers)


def store(data: S3DataBackend, size: int) -> int:
    return data.store_data("a", b"x" * size, if_absent=True)


SIZES = pytest.mark.parametrize(
    ("size", "done"), [(10, STORED), (9 * MIB, COMPLETED)], ids=["one request", "multipart"]
)


@SIZES
def test_the_condition_is_sent(size: int, done: Answer) -> None:
    bucket = Bucket(done)
    with AnsweringServer(bucket) as server, server.factory.create() as data:
        assert size == store(data, size)
    assert ["*"] == [asked.headers["If-None-Match"] for asked in bucket.written]


@SIZES
def test_a_write_whose_reply_was_lost_knows_its_own_payload_again(size: int, done: Answer) -> None:  # noqa: ARG001
    bucket = Bucket(NO_REPLY, TAKEN)
    with AnsweringServer(bucket) as server, server.factory.create() as data:
        assert size == store(data, size)
    assert 2 == len(bucket.written)


@SIZES
def test_the_payload_of_another_is_told_from_its_own(size: int, done: Answer) -> None:  # noqa: ARG001
    for answers in ([TAKEN], [NO_REPLY, TAKEN]):
        with (
            AnsweringServer(Bucket(*answers, mark="another")) as server,
            server.factory.create() as data,
            pytest.raises(DataExistsError, match="'a'"),
        ):
            store(data, size)


@SIZES
def test_a_write_that_met_a_deletion_is_tried_again(size: int, done: Answer) -> None:
    for conflict in (CONFLICT, error(404, "NoSuchKey"), TAKEN):
        bucket = Bucket(conflict, done, mark=None)
        with AnsweringServer(bucket) as server, server.factory.create() as data:
            assert size == store(data, size)
        assert 2 == len(bucket.written)


@SIZES
def test_a_write_that_meets_others_each_time_gives_up_and_has_done_nothing(size: int, done: Answer) -> None:  # noqa: ARG001
    with AnsweringServer(Bucket(*[CONFLICT] * 99, mark=None)) as server, server.factory.create() as data:
        with pytest.raises(BackendUnavailableError, match="nothing was changed, try again") as raised:
            store(data, size)
        with deadline(0.3), pytest.raises(DeadlineExceededError):
            store(data, size)
    assert "none" == raised.value.outcome


@pytest.mark.parametrize("if_absent", [True, False])
def test_an_upload_that_was_completed_though_its_reply_was_lost_is_done(*, if_absent: bool) -> None:
    bucket = Bucket(NO_REPLY, error(404, "NoSuchUpload"))
    with AnsweringServer(bucket) as server, server.factory.create() as data:
        assert 9 * MIB == data.store_data("a", b"x" * (9 * MIB), if_absent=if_absent)


@pytest.mark.parametrize("mark", [None, "another"])
def test_an_upload_that_was_aborted_by_somebody_is_an_error(mark: str | None) -> None:
    with (
        AnsweringServer(Bucket(error(404, "NoSuchUpload"), mark=mark)) as server,
        server.factory.create() as data,
        pytest.raises(BackendError, match="multipart upload isn't there any more"),
    ):
        data.store_data("a", b"x" * (9 * MIB))


def test_only_writes_under_a_condition_and_uploads_are_marked(backend: S3DataBackend, client: Any) -> None:
    backend.store_data("plain", b"x")
    backend.store_data("absent", b"x", if_absent=True)
    backend.store_data("large", b"x" * (6 * MIB))

    def marked(message_id: str) -> bool:
        return "retryspool-write" in client.head_object(**backend._store.at(message_id))["Metadata"]

    assert (False, True, True) == (marked("plain"), marked("absent"), marked("large"))


def test_a_large_payload_that_is_there_is_not_replaced_if_absent(backend: S3DataBackend, client: Any) -> None:
    backend.store_data("a", b"kept")

    with pytest.raises(DataExistsError):
        backend.store_data("a", b"x" * (6 * MIB), if_absent=True)

    assert {"a": b"kept"} == backend.fetch_many(["a"], max_bytes=10)
    assert [] == client.list_multipart_uploads(Bucket="retryspool", Prefix=backend._store.prefix).get("Uploads", [])
