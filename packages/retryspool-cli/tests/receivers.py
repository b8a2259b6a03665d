"""Peers to deliver to: a real HTTP server, whose answers are given beforehand."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from serving import Serving


@dataclass
class Request:
    path: str
    headers: Message
    body: bytes
    client: tuple[str, int]


Answer = Callable[["Handler"], None]


@dataclass
class HttpReceiver(Serving):
    """Answers its requests by `answers` in turn; with 204 when they are used up."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self._server = server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"receiver": self}))
        server.daemon_threads = True
        server.block_on_close = False
        if self.tls is not None:
            server.socket = self.tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        return super().__enter__()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self._server.server_address[1]}/hook?a=b"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: HttpReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.receiver.requests.append(Request(self.path, self.headers, body, self.client_address))
        self.receiver.answers.pop(0)(self) if self.receiver.answers else answer(204)(self)

    def handle(self) -> None:
        with suppress(OSError):  # whoever calls may hang up, above all one that doesn't trust the certificate
            super().handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        pass


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    def give(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if status != 204:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return give


def hang_up(handler: Handler) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True
    handler.connection.close()
