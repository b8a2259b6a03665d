"""A TCP proxy that fails as networks do, for the tests of one process.

.. code-block:: python

    with Proxy("127.0.0.1", 6379) as proxy:
        client = connect(*proxy.address)
        proxy.inflict(RESET_REPLY)          # what `faults.py` lists
        ...
        proxy.heal()
"""

from __future__ import annotations

import queue
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from retryspool.conformance.faults import PASS, Connecting, Fault
from retryspool.conformance.relaying import Connection, discard
from retryspool.conformance.streams import Rules

__all__ = ["Proxy"]

_HOST = "127.0.0.1"
_BACKLOG = 256
_CONNECT_S = 5.0
_PATIENCE_S = 30

Result = TypeVar("Result")


class Proxy:
    """Stands before the server at `host` and `port`, at an address of its own. One thread does all of it.

    :param host: where the server is
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = _listen((_HOST, 0))
        name = self._listener.getsockname()
        self.address: tuple[str, int] = name[0], name[1]
        """Where clients are to connect."""
        self._rules = Rules()
        self._connections: set[Connection] = set()
        self._fillers: list[socket.socket] = []
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._alarm, self._bell = socket.socketpair()
        self._alarm.settimeout(0)
        self._selector.register(self._alarm, selectors.EVENT_READ, self._obey)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._running = True
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._thread.start()

    # -- for tests: each returns when it is so -------------------------------------------------------------------------

    def inflict(self, fault: Fault) -> None:
        """Let a fault be in force, and no other. `hits` counts from 0 again."""
        self._order(lambda: self._inflict(fault))

    def heal(self) -> None:
        """Let everything pass. Connections of which bytes have vanished get a RST: nothing right can come of them."""
        self.inflict(PASS)

    def cut(self) -> None:
        """End all connections, the idle ones too, with a RST to both sides. New ones are as the fault has it."""
        self._order(self._cut)

    @property
    def hits(self) -> int:
        """How often the fault in force has struck: requests, replies, or connections."""
        return self._order(lambda: self._rules.hits)

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return self._order(lambda: len(self._connections))

    def most_busy(self) -> int:
        """Return how many connections waited for a reply at once, at the most, since this was called last."""

        def take() -> int:
            most, self._rules.most_busy = self._rules.most_busy, self._rules.busy
            return most

        return self._order(take)

    def close(self) -> None:
        """End all connections, and the thread. May be called again."""
        if self._running:
            self._order(self._stop)
            self._thread.join(_PATIENCE_S)
            self._bell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- in its thread -------------------------------------------------------------------------------------------------

    def _order(self, act: Callable[[], Result]) -> Result:
        done: Future[Result] = Future()

        def carry_out() -> None:
            try:
                done.set_result(act())
            except BaseException as error:  # noqa: BLE001 -- it is raised where it was ordered
                done.set_exception(error)

        if not self._running:
            return act()  # nobody else is left
        self._orders.put(carry_out)
        self._bell.send(b"!")
        return done.result(_PATIENCE_S)

    def _run(self) -> None:
        while self._running:
            for key, events in self._selector.select(self._pause()):
                act: Callable[[int], None] = key.data
                act(events)
            now = time.monotonic()
            for connection in [each for each in self._connections if each.is_due(now)]:
                connection.pump(now)
        discard(self._alarm)
        self._selector.close()

    def _pause(self) -> float | None:
        times = [due for each in self._connections if (due := each.due) is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _obey(self, _events: int) -> None:
        with suppress(BlockingIOError):
            self._alarm.recv(4096)
        with suppress(queue.Empty):
            while True:
                self._orders.get_nowait()()

    def _accept(self, _events: int) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # it has gone again
            return
        try:
            server = socket.create_connection(self._target, _CONNECT_S)
        except OSError:
            discard(client, reset=True)
            return
        self._connections.add(Connection(client, server, self._selector, self._rules, self._connections.discard))

    def _inflict(self, fault: Fault) -> None:
        before, self._rules.fault = self._rules.fault.connecting, fault
        self._rules.begin()
        if before is not fault.connecting:
            self._change_listener(fault.connecting)
        if fault.connecting is Connecting.REFUSE:
            self._cut()
        for connection in list(self._connections):
            connection.begin(fault)

    def _change_listener(self, connecting: Connecting) -> None:
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        with suppress(KeyError, ValueError):
            self._selector.unregister(self._listener)
        if connecting is Connecting.IGNORE:
            self._listener.listen(0)
            self._fillers = [_filler(self.address) for _ in range(4)]  # with its queue full, it ignores who knocks
            return
        self._listener.close()
        if connecting is Connecting.REFUSE:
            self._listener = _bind(self.address)  # the port stays ours
        else:
            self._listener = _listen(self.address)
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    def _stop(self) -> None:
        self._running = False
        self._cut()
        for each in (*self._fillers, self._listener):
            each.close()


def _bind(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.settimeout(0)
    return sock


def _listen(address: tuple[str, int]) -> socket.socket:
    sock = _bind(address)
    sock.listen(_BACKLOG)
    return sock


def _filler(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(0)
    sock.connect_ex(address)
    return sock
