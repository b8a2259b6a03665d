"""One direction of a connection through the suite's proxy, and the rules that hold for all of them."""

from __future__ import annotations

import socket
import time
from collections import deque

from retryspool.conformance.faults import PASS, Treatment

__all__ = ["Rules", "Stream"]

_DELAY_S = 0.02
_DRIP_S = 0.01


class Rules:
    """The fault in force, and what it has done; shared by all connections of a proxy."""

    def __init__(self) -> None:
        self.fault = PASS
        self.hits = 0
        self.generation = 0
        self.busy = 0
        self.most_busy = 0
        self._spared = 0
        self._left: int | None = None

    def begin(self) -> None:
        """Count from the beginning."""
        self.hits = 0
        self.generation += 1
        self._spared, self._left = self.fault.spared, self.fault.times

    def strikes(self) -> bool:
        """Tell whether the fault strikes the next request or reply."""
        if self._spared > 0:
            self._spared -= 1
            return False
        if self._left == 0:
            return False
        if self._left is not None:
            self._left -= 1
        self.hits += 1
        return True

    def count_busy(self, change: int) -> None:
        """Note that a connection has begun, or ended, to wait for a reply."""
        self.busy += change
        self.most_busy = max(self.most_busy, self.busy)


class Stream:
    """One direction: what was read from the one side, and is still to be written to the other."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.chunks: deque[tuple[float, bytes]] = deque()
        """Each with the time from which it may be written; an empty one is the end."""
        self.size = 0
        self.is_blocked = False
        """Whether the other side has no room."""
        self.at_end = False
        """Whether nothing more is to be read."""
        self.is_done = False
        """Whether the end was passed on."""

    def put(self, chunk: bytes, treatment: Treatment) -> None:
        now = time.monotonic()
        last = max(now, self.chunks[-1][0]) if self.chunks else now
        if treatment is Treatment.DRIP:
            self.chunks += [(last + _DRIP_S * number, chunk[number : number + 1]) for number in range(len(chunk))]
        else:
            self.chunks.append((max(last, now + _DELAY_S) if treatment is Treatment.DELAY else last, chunk))
        self.size += len(chunk)

    def hurry(self) -> None:
        """Let go of what was to come late."""
        now = time.monotonic()
        self.chunks = deque((now, chunk) for _, chunk in self.chunks)

    def pump(self, now: float) -> None:
        """Write what is due.

        :raises OSError: the other side is gone
        """
        while self.chunks and self.chunks[0][0] <= now:
            due, chunk = self.chunks[0]
            if not chunk:
                self.sink.shutdown(socket.SHUT_WR)
                self.is_done = True
                self.chunks.clear()
                return
            try:
                sent = self.sink.send(chunk)
            except BlockingIOError:
                self.is_blocked = True
                return
            self.size -= sent
            self.chunks.popleft()
            if sent < len(chunk):
                self.chunks.appendleft((due, chunk[sent:]))
