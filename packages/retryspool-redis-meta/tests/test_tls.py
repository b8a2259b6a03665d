"""TLS. The server that comes as a wheel has none, so TLS ends before it, at a relay: the handshakes are real ones."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from retryspool import deadline
from retryspool.errors import BackendClosedError, BackendUnavailableError, DeadlineExceededError
from retryspool.model import MessageMetadata, State
from retryspool_redis_meta import RedisMetaFactory


class TlsRelay:
    """Takes TLS at a port of its own, and passes what is in it on to a server."""

    def __init__(self, target: tuple[str, int], certificate: Path, *, client_ca: Path | None = None) -> None:
        self._target = target
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
        self._context.load_cert_chain(certificate)
        if client_ca is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.handshakes = 0
        self._stack = ExitStack()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), self._context.wrap_socket(plain, server_side=True) as client:
            self.handshakes += 1
            with socket.create_connection(self._target) as server:
                self._stack.callback(server.close)
                threading.Thread(target=self._back, args=(server, client), daemon=True).start()
                while data := client.recv(65536):
                    server.sendall(data)

    def _back(self, server: socket.socket, client: ssl.SSLSocket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._stack.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, with its key in the same file, that is its own authority."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", path, "-out", path.with_suffix(".crt")),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def target(redis_url: str) -> tuple[str, int]:
    host, _, port = redis_url.removeprefix("redis://").partition("/")[0].rpartition("@")[2].partition(":")
    return host, int(port)


@pytest.fixture
def relay(target: tuple[str, int], certificate: Path) -> Iterator[TlsRelay]:
    relay = TlsRelay(target, certificate)
    yield relay
    relay.close()


@pytest.fixture
def by_tls(factory: RedisMetaFactory, relay: TlsRelay, certificate: Path) -> RedisMetaFactory:
    return replace(factory, url=f"rediss://localhost:{relay.port}/0", tls_ca=str(certificate))


def test_a_server_is_used_by_tls(by_tls: RedisMetaFactory, relay: TlsRelay) -> None:
    with by_tls.create() as backend:
        stored = backend.store_meta("a", MessageMetadata("a", headers={"k": "v" * 100_000}))

        assert stored == backend.get_meta("a")
        assert [stored] == list(backend.iter_messages(State.INCOMING))
        assert backend.wait_for_change(5)
        assert not backend.wait_for_change(0.05)
    assert relay.handshakes >= 1


def test_a_certificate_that_nobody_vouches_for_is_refused(by_tls: RedisMetaFactory) -> None:
    with pytest.raises(BackendUnavailableError, match="certificate verify failed") as refused:
        replace(by_tls, tls_ca="").create()
    assert "none" == refused.value.outcome


def test_a_certificate_for_another_host_is_refused(by_tls: RedisMetaFactory, relay: TlsRelay) -> None:
    with pytest.raises(BackendUnavailableError, match="certificate verify failed"):
        replace(by_tls, url=f"rediss://127.0.0.1:{relay.port}/0").create()


def test_verification_can_be_given_up(by_tls: RedisMetaFactory, relay: TlsRelay) -> None:
    url = f"rediss://127.0.0.1:{relay.port}/0?tls_verify=false&prefix={by_tls.prefix}"
    with RedisMetaFactory.from_url(url).create() as backend:
        assert 1 == backend.store_meta("a", MessageMetadata("a")).version


def test_a_server_may_want_a_certificate_of_ours(
    by_tls: RedisMetaFactory, target: tuple[str, int], certificate: Path
) -> None:
    relay = TlsRelay(target, certificate, client_ca=certificate)
    with_own = replace(by_tls, url=f"rediss://localhost:{relay.port}/0", tls_certificate=str(certificate))
    try:
        with with_own.create() as backend:
            assert 1 == backend.store_meta("a", MessageMetadata("a")).version
        with pytest.raises(BackendUnavailableError):
            replace(with_own, tls_certificate="").create()
    finally:
        relay.close()


def test_a_file_of_certificates_that_is_not_there_is_an_error_of_ours(by_tls: RedisMetaFactory) -> None:
    with pytest.raises(BackendUnavailableError):
        replace(by_tls, tls_ca="/nowhere/ca.pem").create()


def test_a_deadline_ends_a_handshake_that_hangs(factory: RedisMetaFactory) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        deadline(0.2),
        pytest.raises(DeadlineExceededError),
    ):
        replace(factory, url=f"rediss://localhost:{silent.getsockname()[1]}/0").create()


def test_closing_ends_a_wait_by_tls_at_once(by_tls: RedisMetaFactory) -> None:
    backend = by_tls.create()
    ended = threading.Event()
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        with suppress(BackendClosedError):
            while True:
                backend.wait_for_change(40)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    begun.wait()
    threading.Event().wait(0.1)  # either way it ends at once; so it's mostly blocked when it does
    backend.close()

    assert ended.wait(10)


def test_a_lease_is_claimed_by_tls(by_tls: RedisMetaFactory) -> None:
    with by_tls.create() as backend:
        backend.store_meta("a", MessageMetadata("a"))

        (claimed,) = backend.claim([State.INCOMING], limit=1, lease=timedelta(hours=1), owner="w")
        assert "w" == claimed.lease_owner
