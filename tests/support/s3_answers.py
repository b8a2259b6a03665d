"""An S3 server that answers as it's told: for what a real one can't be made to do, such as throttling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from serving import Serving

from retryspool_s3_data import S3DataFactory

NO_REPLY = None
"""The connection is closed in place of an answer."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    operation: str
    """The method and the path, as in `GET /bucket/a.data`, and the query if there's one."""
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """So many bytes of the body are sent, and then the connection is closed."""
    raw: bytes | None = None
    """What is sent in place of all that, before the connection is closed."""


def error(status: int, code: str) -> Answer:
    """Return an answer that says what is wrong, as S3 does."""
    return Answer(status, f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode())


NOTHING_LISTED = Answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")

Script = Callable[[Asked], Answer | None]


class AnsweringServer(Serving):
    """Answers each request by a script; a bucket's opening is answered without asking it."""

    def __init__(self, script: Script) -> None:
        self.asked: list[Asked] = []
        self.script = script
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked = Asked(f"{self.command} {self.path}", dict(self.headers.items()), body)
                answer = outer._decide(asked)
                if answer is None or answer.raw is not None:
                    self.wfile.write(b"" if answer is None else answer.raw or b"")
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body[: answer.cut_after])
                self.close_connection = answer.cut_after is not None

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 -- the base class calls them so

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class calls it so
                pass

        self._server = server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True

    def _decide(self, asked: Asked) -> Answer | None:
        if asked.operation.startswith("GET /bucket?list-type=2") and "max-keys=1&" in f"{asked.operation}&":
            return NOTHING_LISTED
        self.asked.append(asked)
        return self.script(asked)

    @property
    def factory(self) -> S3DataFactory:
        return S3DataFactory(
            "bucket",
            endpoint=f"http://127.0.0.1:{self._server.server_port}",
            region="us-east-1",
            access_key="key",
            secret_key="hidden",
            addressing="path",
            timeout=5,
        )
