"""One connection through the suite's proxy."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from retryspool.conformance.faults import Connecting, Fault, Treatment
from retryspool.conformance.streams import Rules, Stream

__all__ = ["Connection", "discard"]

_CHUNK_BYTES = 64 * 1024
_QUEUE_BYTES = 256 * 1024
"""So much is read ahead of a side that doesn't read."""
_BUFFER_BYTES = 128 * 1024
_RESET = struct.pack("ii", 1, 0)


class Connection:
    """A client and the server, and what passes between them. Belongs to the proxy's thread.

    :param forget: is called when it has ended
    """

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        selector: selectors.BaseSelector,
        rules: Rules,
        forget: Callable[[Connection], None],
    ) -> None:
        self._client, self._server = client, server
        self._selector = selector
        self._rules = rules
        self._forget = forget
        self._requests = Stream(client, server)
        self._replies = Stream(server, client)
        self._waits = False
        """Whether the client has asked, and hasn't been answered."""
        self._spared = -1
        """The generation of the fault that has let this request pass."""
        self._is_lost = False
        """Whether bytes have vanished."""
        self._is_orphan = False
        """Whether the server is gone, and the client wasn't told."""
        for sock in (client, server):
            sock.settimeout(0)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)  # little is on its way when it ends
        self._watch()

    # -- for the proxy -------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float | None:
        """When something is to be written next, as far as the time decides."""
        times = [each.chunks[0][0] for each in (self._requests, self._replies) if each.chunks and not each.is_blocked]
        return min(times, default=None)

    def is_due(self, now: float) -> bool:
        """Tell whether something is to be written now."""
        return (due := self.due) is not None and due <= now

    def pump(self, now: float) -> None:
        """Write what is due."""
        try:
            self._requests.pump(now)
            self._replies.pump(now)
        except OSError:
            self.reset()
            return
        if self._requests.is_done and self._replies.is_done:
            self._end()
        else:
            self._watch()

    def begin(self, fault: Fault) -> None:
        """Take note of another fault."""
        if self._is_lost:
            self.reset()
            return
        if fault.connecting is Connecting.IGNORE:
            self._lose_server()
        self._requests.hurry()
        self._replies.hurry()
        self.pump(time.monotonic())

    def reset(self) -> None:
        """End it with a RST to both sides."""
        self._end(reset=True)

    # -- what comes in -------------------------------------------------------------------------------------------------

    def _on_event(self, stream: Stream, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            other = self._replies if stream is self._requests else self._requests
            other.is_blocked = False
        if events & selectors.EVENT_READ and stream.source.fileno() >= 0:
            self._read(stream)
        if self._client.fileno() >= 0:
            self.pump(time.monotonic())

    def _read(self, stream: Stream) -> None:
        try:
            chunk = stream.source.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._break(stream)
            return
        if not chunk:
            self._break(stream, in_order=True)
        elif stream is self._requests:
            self._request(chunk)
        else:
            self._reply(chunk)

    def _request(self, chunk: bytes) -> None:
        fault = self._rules.fault
        is_new = not self._waits
        if self._is_orphan:
            if fault.connecting is not Connecting.IGNORE:
                self.reset()  # as a machine answers that has been restarted
            else:
                self._lose(is_new=not self._is_lost)
            return
        if is_new:
            self._set_waits(waits=True)
        match fault.request:
            case Treatment.SWALLOW:
                self._lose(is_new=is_new)
            case Treatment.RESET if self._strikes(is_new=is_new):
                self.reset()
            case _:
                self._requests.put(chunk, fault.request)

    def _strikes(self, *, is_new: bool) -> bool:
        if not is_new and self._spared == self._rules.generation:
            return False  # the rest of a request that was let pass
        self._spared = self._rules.generation
        return self._rules.strikes()

    def _reply(self, chunk: bytes) -> None:
        fault = self._rules.fault
        is_new = self._waits
        self._set_waits(waits=False)
        match fault.reply:
            case Treatment.SWALLOW:
                self._lose(is_new=is_new)
            case Treatment.RESET if is_new and self._rules.strikes():
                self.reset()
            case Treatment.BREAK_OFF if is_new and self._rules.strikes():
                with suppress(OSError):
                    self._client.send(chunk[: min(int(len(chunk) * fault.kept), len(chunk) - 1)])
                self._end()
            case _:
                self._replies.put(chunk, fault.reply)

    def _break(self, stream: Stream, *, in_order: bool = False) -> None:
        """Pass on that a side has ended the connection, unless the fault keeps that from the other one."""
        fault = self._rules.fault
        if stream is self._replies and fault.reply is Treatment.SWALLOW:
            self._is_lost = True
            self._lose_server()
        elif not in_order or self._is_orphan or self._is_lost:
            self.reset()
        else:
            stream.at_end = True
            stream.put(b"", Treatment.PASS)

    def _lose(self, *, is_new: bool) -> None:
        self._is_lost = True
        self._rules.hits += is_new

    # -- its sockets ---------------------------------------------------------------------------------------------------

    def _lose_server(self) -> None:
        if not self._is_orphan:
            self._is_orphan = True
            self._set_waits(waits=False)
            self._requests.chunks.clear()
            self._replies.chunks.clear()
            with suppress(KeyError):
                self._selector.unregister(self._server)
            discard(self._server, reset=True)

    def _watch(self) -> None:
        """Listen for what can be gone on with."""
        for reading, writing in ((self._requests, self._replies), (self._replies, self._requests)):
            sock = reading.source
            if sock.fileno() < 0:
                continue
            wanted = 0
            if not reading.at_end and reading.size < _QUEUE_BYTES:
                wanted |= selectors.EVENT_READ
            if writing.is_blocked:
                wanted |= selectors.EVENT_WRITE
            key = self._selector.get_map().get(sock)
            if wanted and key is None:
                self._selector.register(sock, wanted, self._handler(reading))
            elif wanted and key is not None and key.events != wanted:
                self._selector.modify(sock, wanted, key.data)
            elif not wanted and key is not None:
                self._selector.unregister(sock)

    def _handler(self, stream: Stream) -> Callable[[int], None]:
        return lambda events: self._on_event(stream, events)

    def _end(self, *, reset: bool = False) -> None:
        if self._client.fileno() < 0:
            return
        self._set_waits(waits=False)
        for sock in (self._client, self._server):
            if sock.fileno() >= 0:
                with suppress(KeyError):
                    self._selector.unregister(sock)
                discard(sock, reset=reset)
        self._requests.chunks.clear()
        self._replies.chunks.clear()
        self._forget(self)

    def _set_waits(self, *, waits: bool) -> None:
        if waits != self._waits:
            self._waits = waits
            self._rules.count_busy(1 if waits else -1)


def discard(sock: socket.socket, *, reset: bool = False) -> None:
    """Close a socket, with a RST if that is wanted."""
    with suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()
