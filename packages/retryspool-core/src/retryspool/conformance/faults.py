"""What the suite's proxy does to the connections that go through it.

A request is what a client sends until it is answered, a reply what the server sends after a request: the proxy knows
no protocol, only who spoke last.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

__all__ = [
    "ALL_CUTS",
    "BLACK_HOLE",
    "BROKEN_OFF",
    "BROKEN_OFF_EARLY",
    "BROKEN_OFF_LATE",
    "CUTS",
    "DELAY",
    "DRIP",
    "FAULTS",
    "HALF_OPEN",
    "LOST_REPLY",
    "PASS",
    "REFUSED",
    "RESET_REPLY",
    "RESET_REQUEST",
    "Connecting",
    "Fault",
    "Treatment",
]


class Treatment(enum.Enum):
    """What becomes of the bytes of one direction."""

    PASS = "pass"  # noqa: S105 -- no password
    DELAY = "delay"
    """Each chunk is late."""
    DRIP = "drip"
    """They come one at a time."""
    SWALLOW = "swallow"
    """They vanish, and the connection stays open; an end of the stream vanishes too."""
    RESET = "reset"
    """They vanish, and both sides get a RST."""
    BREAK_OFF = "break off"
    """A part of the chunk passes, then the stream ends as if in order."""


class Connecting(enum.Enum):
    """What becomes of new connections."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    """Nobody listens; connections that are open get a RST."""
    IGNORE = "ignore"
    """Nobody answers, not even that nobody listens; open connections have lost their server, and aren't told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way in which a network fails, in force from one moment for new connections and for those that are open."""

    name: str
    request: Treatment = Treatment.PASS
    reply: Treatment = Treatment.PASS
    connecting: Connecting = Connecting.ACCEPT
    spared: int = 0
    """So many requests, or replies, pass before it strikes. Only for `RESET` and `BREAK_OFF`."""
    kept: float = 0.5
    """What `BREAK_OFF` lets pass of the reply's first chunk: all but a byte at the most."""
    times: int | None = None
    """So often it strikes, and then no more; None: always. Only for `RESET` and `BREAK_OFF`."""

    def once_after(self, spared: int) -> Fault:
        """Return this fault as one that strikes once, after so many requests or replies."""
        return replace(self, spared=spared, times=1)

    def from_then_on(self, spared: int) -> Fault:
        """Return this fault as one that goes on striking, after so many requests or replies."""
        return replace(self, spared=spared, times=None)

    @property
    def summary(self) -> str:
        """What it does, in a few words."""
        how_often = "" if self.times is None else ", once" if self.times == 1 else f", {self.times} times"
        return f"{self.name}{f' after {self.spared}' if self.spared else ''}{how_often}"

    def __str__(self) -> str:
        return self.name


PASS = Fault(name="pass")
DELAY = Fault(name="delay", request=Treatment.DELAY, reply=Treatment.DELAY)
DRIP = Fault(name="drip", request=Treatment.DRIP, reply=Treatment.DRIP)
RESET_REQUEST = Fault(name="reset-before-request", request=Treatment.RESET)
"""Nothing of the request reaches the server."""
RESET_REPLY = Fault(name="reset-before-reply", reply=Treatment.RESET)
"""The server has carried out the request, and has answered; nothing of the reply reaches the client."""
BROKEN_OFF = Fault(name="broken-off-reply", reply=Treatment.BREAK_OFF)
BROKEN_OFF_EARLY = Fault(name="early-broken-off-reply", reply=Treatment.BREAK_OFF, kept=0.15)
BROKEN_OFF_LATE = Fault(name="late-broken-off-reply", reply=Treatment.BREAK_OFF, kept=1.0)
"""Nothing but the last byte is missing."""
BLACK_HOLE = Fault(name="black-hole", request=Treatment.SWALLOW)
"""Connections are accepted, requests go nowhere."""
LOST_REPLY = Fault(name="lost-reply", reply=Treatment.SWALLOW)
"""Requests are carried out, replies go nowhere."""
HALF_OPEN = Fault(name="half-open", request=Treatment.SWALLOW, reply=Treatment.SWALLOW, connecting=Connecting.IGNORE)
REFUSED = Fault(name="refused", connecting=Connecting.REFUSE)

CUTS = (RESET_REQUEST, RESET_REPLY, BROKEN_OFF)
"""Those that end a connection at a certain request or reply."""

ALL_CUTS = (RESET_REQUEST, RESET_REPLY, BROKEN_OFF_EARLY, BROKEN_OFF, BROKEN_OFF_LATE)
"""Likewise, with replies that end in their head, in their middle, and right before their end."""

FAULTS = (DELAY, DRIP, RESET_REQUEST, RESET_REPLY, BROKEN_OFF, BLACK_HOLE, LOST_REPLY, HALF_OPEN, REFUSED)
"""All of them."""
