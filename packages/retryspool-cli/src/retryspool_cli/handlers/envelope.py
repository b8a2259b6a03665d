"""Who a mail is from and who it is for, and its bytes as SMTP wants them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from email.policy import compat32
from email.utils import getaddresses
from io import BytesIO
from typing import BinaryIO

from retryspool import PermanentError

__all__ = ["MAIL_FROM", "RCPT_TO", "SMTPUTF8", "Envelope", "envelope_of", "has_8bit", "wire_chunks"]

MAIL_FROM = "mail-from"
"""The message header that names the sender; `<>` is the null sender of bounces."""
RCPT_TO = "rcpt-to"
"""The message header that names the recipients, separated by commas."""
SMTPUTF8 = "smtputf8"
"""The message header that says, if it isn't empty, that the mail's own headers need SMTPUTF8 (RFC 6531)."""

_CHUNK_BYTES = 64 * 1024
_HEADER_BYTES = 1024 * 1024
_END_OF_LINE = re.compile(rb"\r\n|\r|\n")
_BAD = re.compile(r"[\x00-\x20\x7f<>]")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sender and the recipients."""

    sender: str
    recipients: tuple[str, ...]
    utf8_headers: bool = False
    """Whether the mail's own headers hold more than ASCII, as far as its message says so."""

    @property
    def needs_utf8(self) -> bool:
        """Whether the mail can only go to a server that knows SMTPUTF8."""
        return self.utf8_headers or not all(address.isascii() for address in (self.sender, *self.recipients))


def envelope_of(headers: Mapping[str, str], payload: BinaryIO) -> Envelope:
    """Return the envelope that the message's headers name, else the one that the mail's own do.

    The mail's recipients are those of `To` and `Cc`. `Bcc` isn't read, since the mail is sent as it is, for all to see:
    name such recipients in `rcpt-to`.

    :param payload: the mail, seekable; it stands at its start afterwards
    :raises PermanentError: there's no sender, or no recipient, or one that is no address
    """
    named = {name.lower(): value for name, value in headers.items()}
    own: Mapping[str, list[str]] = {}
    if MAIL_FROM not in named or RCPT_TO not in named:
        own = _own_headers(payload)
    if MAIL_FROM in named:
        senders = [named[MAIL_FROM].strip().removeprefix("<").removesuffix(">")]
    else:
        senders = _addresses(own.get("sender") or own.get("from") or [])
    if not senders:
        msg = f"the mail has no sender: no header {MAIL_FROM!r}, no From in the mail itself"
        raise PermanentError(msg)
    recipients = _addresses([named[RCPT_TO]] if RCPT_TO in named else [*own.get("to", []), *own.get("cc", [])])
    if not recipients:
        msg = f"the mail has no recipient: no header {RCPT_TO!r}, no To or Cc in the mail itself"
        raise PermanentError(msg)
    for address in (*recipients, *([senders[0]] if senders[0] else [])):
        if _BAD.search(address) or "@" not in address[1:-1]:
            msg = f"{address!r} is no mail address"
            raise PermanentError(msg)
    return Envelope(senders[0], tuple(dict.fromkeys(recipients)), bool(named.get(SMTPUTF8)))


def _addresses(values: list[str]) -> list[str]:
    return [address for _, address in getaddresses(values) if address]


def _own_headers(payload: BinaryIO) -> Mapping[str, list[str]]:
    lines: list[bytes] = []
    size = 0
    while size < _HEADER_BYTES and (line := payload.readline(_HEADER_BYTES)) not in {b"", b"\n", b"\r\n"}:
        lines.append(line)
        size += len(line)
    payload.seek(0)
    parsed = BytesHeaderParser(policy=compat32).parse(BytesIO(b"".join(lines)))
    return {name: [str(value) for value in parsed.get_all(name, [])] for name in ("sender", "from", "to", "cc")}


def has_8bit(payload: BinaryIO) -> bool:
    """Tell whether a payload holds bytes beyond ASCII; it stands at its start afterwards."""
    try:
        while chunk := payload.read(_CHUNK_BYTES):
            if not chunk.isascii():
                return True
        return False
    finally:
        payload.seek(0)


def wire_chunks(payload: BinaryIO) -> Iterator[bytes]:
    """Yield a mail as it follows DATA (RFC 5321, 4.5.2): lines end in CRLF, the last one too, a leading dot is doubled.

    A mail whose lines end in CRLF arrives byte for byte. A bare LF or CR, as in files on Unix, becomes CRLF, as by
    `sendmail`: it must not be sent (2.3.8), and servers that differ about it are what SMTP smuggling lives on.
    """
    at_line_start = True
    held = b""
    while chunk := payload.read(_CHUNK_BYTES):
        chunk = held + chunk  # a CR that ended the last one may belong to an LF
        held = b"\r" if chunk.endswith(b"\r") else b""
        text = _END_OF_LINE.sub(b"\r\n", chunk.removesuffix(b"\r"))
        if not text:
            continue
        stuffed = text.replace(b"\r\n.", b"\r\n..")
        yield b"." + stuffed if at_line_start and text.startswith(b".") else stuffed
        at_line_start = text.endswith(b"\r\n")
    if held or not at_line_start:
        yield b"\r\n"
