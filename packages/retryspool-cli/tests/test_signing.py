import base64
import hmac
import io
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from retryspool import Queue, State
from retryspool.model import utc_now
from retryspool_cli.exits import WrongUsageError
from retryspool_cli.handlers.signing import SECRET_VARIABLE, Signer, read_secrets
from retryspool_cli.handlers.targets import Target, make_handler
from retryspool_cli.handlers.webhook import WebhookHandler

from .conftest import Cli, Deliver, put
from .receivers import HttpReceiver, Request, answer, hang_up

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"


@pytest.fixture
def receiver() -> Generator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


def verify(request: Request, secret: str) -> bool:
    """Verify a request as the specification tells receivers to."""
    headers = request.headers
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    expected = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    fresh = abs(utc_now().timestamp() - int(headers["webhook-timestamp"])) < 300
    return fresh and any(hmac.compare_digest(expected, each) for each in headers["webhook-signature"].split())


def test_a_signature_is_that_of_the_specifications_example() -> None:
    payload = io.BytesIO(b'{"test": 2432232314}')

    headers = Signer((SECRET,)).headers("msg_p5jXN8AQM9LWM0D4loKWxJek", payload, now=1614265330)

    assert {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    } == headers
    assert 0 == payload.tell()


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_a_receiver_can_verify_each_request(size: int, receiver: HttpReceiver, deliver: Deliver) -> None:
    receiver.answers += [hang_up, answer(503)]

    deliver(WebhookHandler(receiver.url, signer=Signer((SECRET,))), b"x" * size, message_id="order-1")

    assert [True, True] == [verify(request, SECRET) for request in receiver.requests]
    assert [False, False] == [verify(request, OTHER) for request in receiver.requests]
    assert "order-1" == receiver.requests[0].headers["webhook-id"]


def test_while_secrets_are_changed_a_receiver_may_know_either(receiver: HttpReceiver, deliver: Deliver) -> None:
    deliver(WebhookHandler(receiver.url, signer=Signer((SECRET, OTHER))))

    (request,) = receiver.requests
    assert (True, True) == (verify(request, SECRET), verify(request, OTHER))


def test_a_payload_that_can_be_read_only_once_is_signed_all_the_same(receiver: HttpReceiver, deliver: Deliver) -> None:
    class Once(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self._content = io.BytesIO(content)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            return self._content.readinto(buffer)

    handler = WebhookHandler(receiver.url, signer=Signer((SECRET,)))

    def forward(message: object, payload: BinaryIO) -> None:
        handler(message, cast("BinaryIO", io.BufferedReader(Once(payload.read()))))  # type: ignore[arg-type]

    record = deliver(forward, b"only once" * 300_000)

    assert State.ARCHIVED is record.state, record.last_error
    assert verify(receiver.requests[0], SECRET)
    handler.stop()


def test_a_message_cannot_bring_a_signature_of_its_own(receiver: HttpReceiver, deliver: Deliver) -> None:
    forged = {"Webhook-Signature": "v1,forged", "webhook-id": "another"}

    deliver(WebhookHandler(receiver.url, headers={"webhook-id": "x"}, signer=Signer((SECRET,))), headers=forged)
    deliver(WebhookHandler(receiver.url), headers=forged)

    signed, unsigned = receiver.requests
    assert verify(signed, SECRET)
    assert 1 == len(signed.headers.get_all("webhook-id", []))
    assert unsigned.headers["webhook-signature"] is None


def test_work_signs_with_the_secrets_of_a_file_or_of_the_environment(
    receiver: HttpReceiver, process: Cli, tmp_path: Path, queue: Queue
) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"# the new one\n{OTHER}\n{SECRET} # the old one\n")
    work = ("work", "--webhook", receiver.url, "--drain")

    put(queue, State.INCOMING)
    by_file = process(*work, "--webhook-secret-file", file)
    put(queue, State.INCOMING)
    by_environment = process(*work, env={SECRET_VARIABLE: SECRET})

    assert (0, 0) == (by_file.code, by_environment.code), by_file.err + by_environment.err
    first, second = receiver.requests
    assert (True, True) == (verify(first, OTHER), verify(first, SECRET))
    assert (False, True) == (verify(second, OTHER), verify(second, SECRET))


@pytest.mark.parametrize("secret", ["password", "whsec_", "whsec_dG9vc2hvcnQ=", f"whsec_{'A' * 100}", "whsec_!!!"])
def test_what_is_no_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(WrongUsageError, match="secret 1 isn't whsec_") as caught:
        make_handler(Target(webhook="http://example.com/"), {SECRET_VARIABLE: secret})

    assert secret not in str(caught.value).replace("whsec_ ", "").replace("whsec_$", "")
    assert SECRET not in repr(Signer((SECRET,)))


def test_a_file_of_secrets_that_is_not_there_or_has_none_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("# none\n")

    with pytest.raises(WrongUsageError, match="no secret"):
        make_handler(Target(webhook="http://example.com/", webhook_secret_file=empty), {SECRET_VARIABLE: SECRET})
    with pytest.raises(WrongUsageError, match="No such file"):
        make_handler(Target(webhook="http://example.com/", webhook_secret_file=tmp_path / "not there"), {})
    assert read_secrets(None, {}) is None
