import io
import math
import os
import socket
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from retryspool import MessageMetadata, Queue, QueueOptions, RetryableError, RouteError, Spool, State
from retryspool.memory import MemoryDataFactory, MemoryMetaFactory
from retryspool.model import utc_now
from retryspool.queue import Message
from retryspool.queue.message import Job
from retryspool_cli.handlers.webhook import WebhookHandler, retry_after

from .conftest import Deliver
from .receivers import HttpReceiver, answer, hang_up

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def receiver() -> Generator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


@pytest.mark.parametrize(
    "content", [b"", bytes(range(256)) * 40, os.urandom(3_000_000)], ids=["empty", "bytes", "large"]
)
def test_a_payload_arrives_byte_for_byte(content: bytes, receiver: HttpReceiver, deliver: Deliver) -> None:
    record = deliver(WebhookHandler(receiver.url), content)

    assert State.ARCHIVED is record.state
    assert [content] == [request.body for request in receiver.requests]


def test_the_receiver_is_told_which_message_it_is(receiver: HttpReceiver, deliver: Deliver) -> None:
    headers = {
        "content-type": "image/png",
        "X-Order": "Grüße",
        "Host": "evil.example",
        "transfer-encoding": "chunked",
        "Authorization": "mine",
        "idempotency-key": "forged",
    }
    handler = WebhookHandler(receiver.url, headers={"authorization": "Bearer operator"})

    deliver(handler, message_id="order-1", headers=headers)

    (request,) = receiver.requests
    assert "/hook?a=b" == request.path
    assert ["order-1"] == request.headers.get_all("Idempotency-Key")
    assert "1" == request.headers["X-RetrySpool-Deliveries"]
    assert ["image/png"] == request.headers.get_all("Content-Type")
    assert "Grüße" == request.headers["X-Order"].encode("latin-1").decode()
    assert ["Bearer operator"] == request.headers.get_all("Authorization")
    assert "127.0.0.1" in request.headers["Host"]
    assert request.headers["Transfer-Encoding"] is None


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int, receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers.append(answer(status))

    assert State.ARCHIVED is deliver(WebhookHandler(receiver.url)).state


@pytest.mark.parametrize("status", [300, 302, 308, 408, 425, 429, 500, 502, 503, 504, 599])
def test_what_may_pass_is_retried(status: int, receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers.append(answer(status, b"come back later", Location=receiver.url))

    record = deliver(WebhookHandler(receiver.url))

    assert State.DEFERRED is record.state
    assert f"HTTP {status}" in record.last_error
    assert "come back later" in record.last_error
    assert 1 == len(receiver.requests), "a redirect is not followed"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422, 451, 499])
def test_other_4xx_bounce(status: int, receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers.append(answer(status, b"\xffno"))

    record = deliver(WebhookHandler(receiver.url))

    assert State.BOUNCE is record.state
    assert f"HTTP {status}" in record.last_error


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        ("120", timedelta(seconds=120)),
        (" 0 ", timedelta(0)),
        (format_datetime(NOW + timedelta(hours=1), usegmt=True), timedelta(hours=1)),
        ("Tue, 01 Jan 2030 00:00:10 -0000", timedelta(seconds=10)),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), timedelta(0)),
        ("99999999999999999", timedelta(days=30)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", timedelta(days=30)),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, delay: timedelta | None) -> None:
    assert delay == retry_after(value, NOW)


def test_retry_after_decides_when_a_message_is_due(receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers.append(answer(503, Retry_After="5000"))

    record = deliver(WebhookHandler(receiver.url))

    assert timedelta(seconds=4900) < record.next_retry - utc_now() <= timedelta(seconds=5000)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "concerns"),
    [
        (429, {"Retry-After": "120"}, RouteError, "route"),
        (503, {"Retry-After": "120"}, RouteError, "route"),
        (429, {}, RetryableError, "route"),
        (503, {}, RetryableError, "route"),
        (500, {"Retry-After": "120"}, RetryableError, "route"),
        (425, {}, RetryableError, "message"),
    ],
)
def test_an_answer_is_of_the_destination_or_of_the_message(
    status: int, headers: dict[str, str], kind: type[Exception], concerns: str, receiver: HttpReceiver
) -> None:
    receiver.answers.append(answer(status, b"", **headers))

    handler = WebhookHandler(receiver.url)
    with pytest.raises(RetryableError) as caught:
        handler(Message(Job(MessageMetadata("a"), math.inf)), io.BytesIO(b""))

    handler.stop()
    assert (kind, concerns) == (type(caught.value), caught.value.concerns)
    assert (120 if headers else None) == (caught.value.after and caught.value.after.total_seconds())


def test_nobody_there_is_retried(deliver: Deliver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"

    record = deliver(WebhookHandler(url))

    assert State.DEFERRED is record.state
    assert "refused" in record.last_error


def test_a_receiver_that_does_not_answer_is_given_up(deliver: Deliver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        record = deliver(WebhookHandler(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.2))

    assert State.DEFERRED is record.state
    assert "timed out" in record.last_error


def test_a_connection_that_was_closed_meanwhile_costs_no_attempt(receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers.append(hang_up)

    record = deliver(WebhookHandler(receiver.url), b"once more")

    assert (State.ARCHIVED, 0) == (record.state, record.attempts)
    assert [b"once more", b"once more"] == [request.body for request in receiver.requests]


def test_one_that_always_hangs_up_is_retried(receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers += [hang_up, hang_up]

    assert State.DEFERRED is deliver(WebhookHandler(receiver.url)).state


def test_an_answer_without_end_neither_hangs_nor_fills_the_memory(receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers.append(answer(500, b"x" * 5_000_000))

    record = deliver(WebhookHandler(receiver.url))

    assert State.DEFERRED is record.state
    assert len(record.last_error) < 500


def test_a_header_that_http_cannot_carry_bounces(receiver: HttpReceiver, deliver: Deliver) -> None:
    for headers in ({"x-evil": "a\r\nHost: b"}, {"bad name": "x"}, {"x:y": "z"}):
        record = deliver(WebhookHandler(receiver.url), headers=headers)

        assert State.BOUNCE is record.state
        assert "can't be sent by HTTP" in record.last_error
    assert [] == receiver.requests


def test_threads_share_connections(receiver: HttpReceiver) -> None:
    spool = Spool(MemoryMetaFactory().create(), MemoryDataFactory().create())
    with Queue(spool, QueueOptions(concurrency=4)) as queue:
        for number in range(100):
            queue.enqueue(str(number).encode())
        handler = WebhookHandler(receiver.url, connections=4)
        queue.add_handler(handler)
        queue.run(until_idle=True)
        handler.stop()

    assert 100 == len({request.body for request in receiver.requests})
    assert len({request.client for request in receiver.requests}) <= 4


@pytest.mark.parametrize("url", ["", "example.com", "ftp://example.com", "http://", "/hook", "http://u:secret@"])
def test_what_is_no_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL to post to") as caught:
        WebhookHandler(url)
    assert "secret" not in str(caught.value)


def test_a_password_in_the_url_logs_in_and_is_not_told(receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers.append(answer(401))

    record = deliver(WebhookHandler(receiver.url.replace("://", "://me:secret@")))

    assert receiver.requests[0].headers["Authorization"].startswith("Basic ")
    assert "secret" not in record.last_error
