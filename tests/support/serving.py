"""Peers of tests that are a server in a thread of the test's own process."""

from __future__ import annotations

import threading
from http.server import HTTPServer
from typing import Self


class Serving:
    """Serves for a `with` block; a subclass makes the server."""

    _server: HTTPServer

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
