"""What a server's answers become: told apart by code and status, never by text."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from s3_answers import NO_REPLY, Answer, AnsweringServer, Asked, error

from retryspool import deadline
from retryspool.errors import (
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    DataNotFoundError,
    DeadlineExceededError,
    InvalidOptionError,
)
from retryspool_s3_data import S3DataFactory
from retryspool_s3_data.backend import S3DataBackend

CALLS: dict[str, Callable[[S3DataBackend], object]] = {
    "store": lambda data: data.store_data("a", b"x"),
    "store if absent": lambda data: data.store_data("a", b"x", if_absent=True),
    "read": lambda data: data.get_data_reader("a"),
    "delete": lambda data: data.delete_data("a"),
    "iterate": lambda data: list(data.iter_data()),
}
LATE_S = 15.0
"""Who takes so long hasn't given up in time, however busy the machine is."""
WRITES = ("store", "store if absent", "delete")


def outcome_of(answer: Answer | None, call: str, **settings: Any) -> BackendError:
    with (
        AnsweringServer(lambda _: answer) as server,
        replace(server.factory, **settings).create() as data,
        pytest.raises(BackendError) as raised,
    ):
        CALLS[call](data)
    assert "hidden" not in str(raised.value)
    assert raised.value.__cause__ is not None
    return raised.value


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_is_told_when_it_is_opened(factory: S3DataFactory) -> None:
    with pytest.raises(BackendError, match=r"no bucket 'not-there'; create it, or .*create_bucket=True"):
        replace(factory, bucket="not-there").create()


def test_a_bucket_is_created_if_that_is_asked_for(factory: S3DataFactory) -> None:
    made = replace(factory, bucket=f"made-{factory.prefix}", create_bucket=True)

    for _ in range(2):
        with made.create() as data:
            data.store_data("a", b"x")

    with replace(made, create_bucket=False).create() as data:
        assert {"a": b"x"} == data.fetch_many(["a"], max_bytes=1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"secret_key": "wrong"}, "SignatureDoesNotMatch .*forbidden; .*look at secret_key"),
        ({"access_key": "wrong"}, "InvalidAccessKeyId .*forbidden; there's no such access key"),
    ],
)
def test_wrong_credentials_are_told_when_the_bucket_is_opened(
    seaweed: S3DataFactory, settings: dict[str, str], says: str
) -> None:
    """On SeaweedFS; Moto's server lets everybody in."""
    with pytest.raises(BackendError, match=says) as raised:
        replace(seaweed, **settings).create()
    assert not isinstance(raised.value, BackendUnavailableError)
    assert str(seaweed.secret_key) not in str(raised.value)


def test_without_credentials_it_says_where_to_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(BackendError, match="no credentials; set access_key and secret_key"):
        S3DataFactory("bucket", endpoint="http://127.0.0.1:1", region="us-east-1").create()


def test_who_may_not_list_may_open_all_the_same() -> None:
    """No server that is at hand has rights on objects without those on the bucket."""
    with AnsweringServer(lambda _: Answer(200, headers={"ETag": '"x"'})) as server:
        decide = server._decide
        server._decide = lambda asked: (  # type: ignore[method-assign]
            error(403, "AccessDenied") if "list-type" in asked.operation else decide(asked)
        )
        with server.factory.create() as data:
            assert 1 == data.store_data("a", b"x")
            with pytest.raises(BackendError, match=r"AccessDenied .*forbidden; let these credentials"):
                list(data.iter_data())


def test_a_server_that_is_not_there_is_told_and_nothing_was_done() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        factory = S3DataFactory(
            "bucket",
            endpoint=f"http://127.0.0.1:{unused.getsockname()[1]}",
            region="us-east-1",
            access_key="a",
            secret_key="b",
            max_attempts=1,
        )
        with pytest.raises(BackendUnavailableError, match=r"can't be reached .*nothing was changed") as raised:
            factory.create()
    assert "none" == raised.value.outcome


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (error(403, "AccessDenied"), "forbidden"),
        (error(403, "ExpiredToken"), "temporary credentials have run out"),
        (error(403, "RequestTimeTooSkewed"), "clock is wrong"),
        (error(404, "NoSuchBucket"), "there is no bucket 'bucket'"),
        (error(400, "AuthorizationHeaderMalformed"), "another region; set region"),
        (error(400, "InvalidRequest"), "InvalidRequest .*as told"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_trying_again_does_not_help_is_no_outage(call: str, answer: Answer, says: str) -> None:
    with pytest.raises(BackendError, match=says) as raised:
        raise outcome_of(answer, call)
    assert not isinstance(raised.value, BackendUnavailableError)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", [error(503, "SlowDown"), error(429, "TooManyRequests")], ids=["503", "429"])
def test_what_is_throttled_was_not_done(call: str, answer: Answer) -> None:
    told = outcome_of(answer, call, max_attempts=1)

    assert isinstance(told, BackendUnavailableError)
    assert "none" == told.outcome
    assert "takes no more for now" in str(told)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", [error(500, "InternalError"), Answer(502), NO_REPLY], ids=["500", "502", "none"])
def test_what_the_server_failed_at_may_have_been_done_if_it_writes(call: str, answer: Answer | None) -> None:
    told = outcome_of(answer, call, max_attempts=2)

    assert isinstance(told, BackendUnavailableError)
    assert ("unknown" if call in WRITES else "none") == told.outcome


def test_an_attempt_that_may_have_been_done_is_not_forgotten_for_a_later_one_that_was_not() -> None:
    answers = iter([NO_REPLY, error(503, "SlowDown")])
    with (
        AnsweringServer(lambda _: next(answers)) as server,
        replace(server.factory, max_attempts=2).create() as data,
        pytest.raises(BackendUnavailableError) as raised,
    ):
        data.store_data("a", b"x")
    assert "unknown" == raised.value.outcome


def test_requests_are_sent_again_by_botocore() -> None:
    answers = iter([error(503, "SlowDown"), NO_REPLY, Answer(200, headers={"ETag": '"x"'})])
    with AnsweringServer(lambda _: next(answers)) as server, server.factory.create() as data:
        assert 1 == data.store_data("a", b"x")
    assert ["PUT /bucket/a.data"] * 3 == [asked.operation for asked in server.asked]


def test_a_missing_payload_is_told_from_a_missing_bucket(backend: S3DataBackend) -> None:
    with pytest.raises(DataNotFoundError, match="message 'a' has no payload"):
        backend.get_data_reader("a")


def test_a_payload_that_is_not_what_its_checksum_says_is_told() -> None:
    answer = Answer(200, b"damaged", {"ETag": '"x"', "x-amz-checksum-crc32": "AAAAAA=="})
    with (
        AnsweringServer(lambda _: answer) as server,
        server.factory.create() as data,
        pytest.raises(CorruptDataError, match=r"message 'a' .*checksum"),
    ):
        data.get_data_reader("a")


# -- deadlines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_never_answers_is_given_up_in_time(call: str) -> None:
    with AnsweringServer(lambda _: NO_REPLY) as server, server.factory.create() as data, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent_factory = replace(server.factory, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        data._store.settings = silent_factory
        data._store._client = data._store._make_client()
        start = time.monotonic()
        with deadline(0.5), pytest.raises(DeadlineExceededError, match="deadline passed") as raised:
            CALLS[call](data)
        assert time.monotonic() - start < LATE_S
        data._store._client.close()
    assert ("unknown" if call in WRITES else "nothing was changed") in str(raised.value)


def test_without_a_deadline_a_server_that_never_answers_is_given_up_after_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        factory = S3DataFactory(
            "bucket",
            endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}",
            region="us-east-1",
            access_key="a",
            secret_key="b",
            timeout=0.2,
            max_attempts=2,
        )
        with pytest.raises(BackendUnavailableError, match="can't be reached"):
            factory.create()


def test_no_attempt_is_made_for_which_there_is_no_time_left() -> None:
    with (
        AnsweringServer(lambda _: error(503, "SlowDown")) as server,
        server.factory.create() as data,
        deadline(0.9),
        pytest.raises(BackendUnavailableError),
    ):
        data.store_data("a", b"x")
    assert 1 == len(server.asked)


def test_a_body_is_sent_without_asking_whether_it_is_welcome(backend: S3DataBackend) -> None:
    """After an empty body sent so, botocore takes the next answer for another: the second store would hang."""
    asked: list[Asked] = []

    def answer(request: Asked) -> Answer:
        asked.append(request)
        return Answer(200, headers={"ETag": '"x"'})

    with AnsweringServer(answer) as server, server.factory.create() as data:
        assert [0, 1] == [data.store_data("a", b""), data.store_data("a", b"x")]
    assert [] == [request for request in asked if "Expect" in request.headers]
    assert [0, 1] == [backend.store_data("a", b""), backend.store_data("a", b"x")]


def test_a_client_of_an_unknown_make_is_refused() -> None:
    with pytest.raises(BackendError, match="deadlines can't be kept with botocore"):
        S3DataFactory("bucket", client=object()).create()  # type: ignore[arg-type]


def test_an_option_is_refused_before_the_server_is_asked() -> None:
    with pytest.raises(InvalidOptionError):
        S3DataFactory("bucket", endpoint="http://127.0.0.1:1", concurrency=0)
