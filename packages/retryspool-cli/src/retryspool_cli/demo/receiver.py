"""The receiver of the demo: a real HTTP server that is busy now and then, has lost some subscribers, and goes down.

It logs what it took, by itself, into a file: that log is what the audit believes.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["GONE", "SUBSCRIBERS", "SUBSCRIBER_HEADER", "Receiver", "Taken", "read_log"]

SUBSCRIBER_HEADER = "x-subscriber"
SUBSCRIBERS = (*(f"subscriber-{number}" for number in range(1, 20)), "subscriber-who-left")
"""Whom messages are for."""
GONE = "subscriber-who-left"
"""Whose messages are answered with 410."""

_BUSY = 0.06
"""How many of the requests are answered with 503."""
_TOO_MANY = 0.04
"""... and with 429, to be tried again after a second."""
_WORK_S = (0.02, 0.12)
"""How long a request takes: long enough for a kill to come in between."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One request that was answered."""

    message_id: str
    sha256: str
    status: int
    at: float = 0
    """When, by the monotonic clock."""


def read_log(path: Path) -> list[Taken]:
    """Return what a receiver has logged."""
    return [Taken(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


class Receiver:
    """The server; `up()` and `down()` may follow each other, on one port."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0
        self.answered: dict[int, int] = {}
        """How many requests were answered, by status."""

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"http://127.0.0.1:{self._port}/hook"

    @property
    def is_up(self) -> bool:
        """Whether it takes connections."""
        return self._server is not None

    def up(self) -> None:
        """Take connections."""
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections. Requests that are being worked on are answered first: what was logged was answered."""
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()

    def took(self, taken: Taken) -> None:
        """Log a request, before it's answered."""
        with self._lock:
            self.answered[taken.status] = self.answered.get(taken.status, 0) + 1
            self._log.write(json.dumps(asdict(taken)) + "\n")
            self._log.flush()

    def close(self) -> None:
        """Go down for good."""
        self.down()
        self._log.close()


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, receiver: Receiver, port: int) -> None:
        self.receiver = receiver
        self.stopping = False
        self.idle: set[socket.socket] = set()
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Request)

    def stop(self) -> None:
        with self.lock:
            self.stopping = True
        self.shutdown()
        with self.lock:
            for connection in self.idle:
                with suppress(OSError):  # it's gone already
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that break: workers get killed here."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  # what serves it is one

    def handle_one_request(self) -> None:
        with self.server.lock:
            if self.server.stopping:
                self.close_connection = True
                return
            self.server.idle.add(self.connection)
        super().handle_one_request()

    def do_POST(self) -> None:
        with self.server.lock:
            if self.server.stopping:  # too late: its connection may be closed already, so that no answer would arrive
                self.close_connection = True
                return
            self.server.idle.discard(self.connection)  # from here on it's answered, whatever comes
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):  # its sender was killed in the middle
            self.close_connection = True
            return
        time.sleep(random.uniform(*_WORK_S))
        status = self._status()
        digest = hashlib.sha256(body).hexdigest()
        self.server.receiver.took(Taken(self.headers["Idempotency-Key"], digest, status, time.monotonic()))
        self.send_response(status)
        if status == 429:  # noqa: PLR2004 -- too many requests
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _status(self) -> int:
        if self.headers[SUBSCRIBER_HEADER] == GONE:
            return 410
        chance = random.random()
        if chance < _BUSY:
            return 503
        return 429 if chance < _BUSY + _TOO_MANY else 200

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        """Say nothing: the screen is the demo's."""
