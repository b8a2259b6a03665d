"""Deliveries over TLS, to peers with the certificate `localhost.pem`: made for tests, trusted nowhere else."""

import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from retryspool import State
from retryspool_cli.handlers.smtp import SmtpHandler, SmtpServer, Tls
from retryspool_cli.handlers.webhook import WebhookHandler

from .conftest import Deliver
from .receivers import HttpReceiver
from .test_smtp import MAIL, Peer, free_port

CERTIFICATE = Path(__file__).parent / "localhost.pem"


# aiosmtpd doesn't know that a connection that is encrypted from the start is encrypted
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")


@pytest.fixture
def context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))


def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: LoginPassword) -> AuthResult:
    right = (login.login, login.password) == (b"me", b"secret")
    return AuthResult(success=right, handled=False)


@pytest.fixture(params=["starttls", "implicit"])
def secure(request: pytest.FixtureRequest, context: ssl.SSLContext) -> Generator[tuple[Peer, Tls]]:
    """A mail server that takes no mail without TLS and a login."""
    peer = Peer(port=free_port())
    login = {"authenticator": authenticate, "auth_required": True}
    tls = (
        {"tls_context": context, "require_starttls": True}
        if request.param == "starttls"
        else {"ssl_context": context, "auth_require_tls": False}
    )
    controller = Controller(peer, hostname="127.0.0.1", port=peer.port, **login, **tls)
    controller.start()
    try:
        yield peer, request.param
    finally:
        controller.stop()


def server(peer: Peer, tls: Tls, password: str = "secret") -> SmtpServer:
    return SmtpServer("127.0.0.1", peer.port, tls=tls, user="me", password=password, timeout_s=10)


@pytest.mark.usefixtures("trusted")
def test_mail_goes_over_tls_with_a_login(secure: tuple[Peer, Tls], deliver: Deliver) -> None:
    peer, tls = secure

    record = deliver(SmtpHandler(server(peer, tls)), MAIL)

    assert State.ARCHIVED is record.state, record.last_error
    assert MAIL == peer.mails[0].original_content


@pytest.mark.usefixtures("trusted")
def test_a_login_that_fails_says_nothing_about_the_mail(secure: tuple[Peer, Tls], deliver: Deliver) -> None:
    peer, tls = secure

    record = deliver(SmtpHandler(server(peer, tls, "wrong-password")), MAIL)

    assert State.DEFERRED is record.state
    assert "535" in record.last_error
    assert "wrong-password" not in record.last_error


def test_a_mail_server_that_nobody_vouches_for_gets_nothing(secure: tuple[Peer, Tls], deliver: Deliver) -> None:
    peer, tls = secure

    record = deliver(SmtpHandler(server(peer, tls)), MAIL)

    assert State.DEFERRED is record.state
    assert "certificate verify failed" in record.last_error
    assert [] == peer.mails


@pytest.mark.parametrize("secure", ["starttls"], indirect=True)
def test_a_server_that_wants_tls_or_a_login_says_nothing_about_the_mail(
    secure: tuple[Peer, Tls], deliver: Deliver
) -> None:
    peer, _ = secure

    record = deliver(SmtpHandler(SmtpServer("127.0.0.1", peer.port)), MAIL)

    assert State.DEFERRED is record.state
    assert "530" in record.last_error


@pytest.mark.usefixtures("trusted")
def test_a_webhook_goes_over_tls(context: ssl.SSLContext, deliver: Deliver) -> None:
    with HttpReceiver(tls=context) as receiver:
        record = deliver(WebhookHandler(receiver.url), b"payload")

    assert State.ARCHIVED is record.state, record.last_error
    assert b"payload" == receiver.requests[0].body


def test_a_receiver_that_nobody_vouches_for_gets_nothing(context: ssl.SSLContext, deliver: Deliver) -> None:
    with HttpReceiver(tls=context) as receiver:
        record = deliver(WebhookHandler(receiver.url))

    assert State.DEFERRED is record.state
    assert "certificate verify failed" in record.last_error
    assert [] == receiver.requests
