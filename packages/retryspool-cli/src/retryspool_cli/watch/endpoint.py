"""The worker's own web server: `/metrics`, `/healthz` and `/readyz`. It runs beside the worker, not in its way."""

from __future__ import annotations

import json
import logging
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self, cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from retryspool import Queue
from retryspool_cli.exits import CommandError
from retryspool_cli.watch.collector import new_registry
from retryspool_cli.watch.health import readiness
from retryspool_cli.watch.stores import Stores
from retryspool_cli.watch.timing import Timing

__all__ = ["Endpoint"]

_log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""How long a client may take over its request, and over the answer."""


class Endpoint:
    """Serves a queue's metrics and health from `start()`, or the beginning of a `with` block, until it's stopped.

    :param host: an address or a name; only this is listened at
    :param port: 0 for any that is free
    :raises CommandError: somebody else listens there, or it isn't this machine's
    """

    def __init__(self, queue: Queue, host: str, port: int) -> None:
        stores, timing = Stores(queue), Timing()
        try:
            self._server = _Server((host, port), queue, stores, new_registry(queue, stores, timing))
        except OSError as error:
            raise CommandError(f"--metrics: can't listen at {_joined(host, port)}: {error}") from error
        queue.add_observer(timing)
        self.url = f"http://{_joined(host, self._server.server_port)}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="retryspool-metrics", daemon=True
        )

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that is slow doesn't keep the worker from ending

    def __init__(self, address: tuple[str, int], queue: Queue, stores: Stores, registry: CollectorRegistry) -> None:
        self.queue = queue
        self.stores = stores
        self.registry = registry
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Answer)

    def handle_error(self, request: object, client_address: object) -> None:
        del request
        _log.debug("%s went away", client_address, exc_info=True)


class _Answer(BaseHTTPRequestHandler):
    timeout = _PATIENCE_S
    server_version = "retryspool"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer."""
        server = cast("_Server", self.server)
        match self.path.partition("?")[0]:
            case "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._send(HTTPStatus.OK, encode(server.registry), content_type)
            case "/healthz":
                self._send_json(HTTPStatus.OK, {"alive": True})
            case "/readyz":
                health = readiness(server.queue, server.stores)
                self._send_json(HTTPStatus.OK if health["ready"] else HTTPStatus.SERVICE_UNAVAILABLE, health)
            case _:
                self._send_json(HTTPStatus.NOT_FOUND, {"there": ["/metrics", "/healthz", "/readyz"]})

    def do_HEAD(self) -> None:
        """Answer, without a body."""
        self.do_GET()

    def _send_json(self, status: HTTPStatus, value: object) -> None:
        self._send(status, json.dumps(value).encode() + b"\n", "application/json")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name in the base class
        _log.debug(format, *args)
