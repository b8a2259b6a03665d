"""Servers that are killed in the middle, and started again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retryspool_cli.servers import Server

__all__ = ["Outages"]

_DOWN_S = 1.0
"""How long a killed server stays down, apart from the time that it takes to come up."""


@dataclass(slots=True)
class _Outage:
    began: float
    ended: float = float("inf")


class Outages:
    """Kills each of the servers once, one after the other, in a thread of its own.

    :param tell: called with what has happened, from that thread
    """

    def __init__(self, servers: Sequence[Server], tell: Callable[[str], None]) -> None:
        self._servers = servers
        self._tell = tell
        self._all: list[_Outage] = []
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def begin(self) -> None:
        """Begin, and return at once."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def are_going_on(self) -> bool:
        """Whether not all the servers are up again.

        :raises ServerError: one didn't come up
        """
        if self._error is not None:
            raise self._error
        return self._thread is not None and self._thread.is_alive()

    def may_have_hit(self, at: float, *, before_s: float, after_s: float) -> bool:
        """Whether a moment of the monotonic clock was in an outage, or so shortly before or after one."""
        return any(each.began - before_s <= at <= each.ended + after_s for each in self._all)

    def wait(self) -> None:
        """Wait until it's over."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            for server in self._servers:
                self._strike(server)
        except Exception as error:  # noqa: BLE001 -- raised again by whoever asks
            self._error = error

    def _strike(self, server: Server) -> None:
        outage = _Outage(time.monotonic())
        self._all.append(outage)
        server.kill()
        self._tell(f"kill -9 of {server.title}: nobody can reach it")
        threading.Event().wait(_DOWN_S)
        server.start()
        outage.ended = time.monotonic()
        self._tell(f"{server.title} is up again, after {outage.ended - outage.began:.1f} s")
