"""The Received header: the trace that each relay leaves, and by which mail that goes in circles is found out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

__all__ = ["Hop", "header_section", "hops"]

_HEADERS_END = re.compile(rb"\r\n\r\n")
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9.:\[\]_-]")


@dataclass(frozen=True, slots=True)
class Hop:
    """One relay's receiving of a mail."""

    said: str
    """What the client called itself."""
    peer: str
    """Its address."""
    hostname: str
    """Ours."""
    protocol: str
    """`SMTP`, `ESMTP` or `UTF8SMTP` (RFC 3848, RFC 6531)."""
    trace_id: str
    when: datetime
    recipient: str = ""
    """Who it's for, if it's for one only: others needn't know of each other."""

    def header(self) -> bytes:
        """Return the header, with its end of line (RFC 5321, 4.4)."""
        said = _NOT_IN_A_NAME.sub("", self.said)[:255] or "unknown"
        whom = f"\r\n\tfor <{self.recipient}>" if self.recipient else ""
        text = (
            f"Received: from {said} ([{self.peer}])\r\n\tby {self.hostname} (RetrySpool) with {self.protocol}"
            f" id {self.trace_id}{whom};\r\n\t{format_datetime(self.when)}\r\n"
        )
        return text.encode()


def header_section(mail: bytes) -> bytes:
    """Return a mail's headers, without the line that ends them."""
    if mail.startswith(b"\r\n"):
        return b""
    end = _HEADERS_END.search(mail)
    return mail if end is None else mail[: end.start() + 2]


def hops(headers: bytes) -> int:
    """Return through how many relays a mail has come."""
    return len(_RECEIVED.findall(headers))
