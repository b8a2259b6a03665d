"""A session with a mail server, and one mail's transaction in it.

Where the server knows PIPELINING (RFC 2920), MAIL, all RCPT and DATA go in one round trip; the mail takes the other.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from retryspool_cli.handlers.envelope import Envelope, has_8bit, wire_chunks
from retryspool_cli.handlers.replies import Result, failure, reply

__all__ = ["Session", "SmtpServer", "Tls"]

Tls = Literal["off", "starttls", "implicit"]

_START = 354
_GONE = 421
_AT_ONCE = 50
"""Commands sent before replies are read: what is under way in both directions has to fit into the sockets' buffers."""


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where to send mail, and how to get in."""

    host: str
    port: int = 25
    tls: Tls = "off"
    user: str = ""
    password: str = ""
    timeout_s: float = 60.0
    local_hostname: str | None = None
    """What to greet with; the machine's own name if not given."""

    def __repr__(self) -> str:
        return f"SmtpServer({self.host}:{self.port}, tls={self.tls!r}, user={self.user!r})"

    def connect(self) -> Session:
        """Return a session that is ready for mail.

        :raises OSError: there's none to be had; smtplib's own errors are such
        """
        if self.tls == "implicit":
            context = ssl.create_default_context()
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, self.local_hostname, timeout=self.timeout_s, context=context
            )
        else:
            smtp = smtplib.SMTP(self.host, self.port, self.local_hostname, timeout=self.timeout_s)
        try:
            smtp.ehlo_or_helo_if_needed()
            if self.tls == "starttls":
                smtp.starttls(context=ssl.create_default_context())
                smtp.ehlo_or_helo_if_needed()
            if self.user:
                smtp.login(self.user, self.password)
            if smtp.sock is not None:  # a mail's last bytes wait for nobody's acknowledgement
                smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            smtp.close()
            raise
        return Session(smtp, self.host)


@dataclass(slots=True)
class Session:
    """A session that takes one mail after another."""

    smtp: smtplib.SMTP
    host: str
    answered: bool = False
    """Whether the server has answered since this session was last taken into use."""
    _reset: bool = False
    """Whether a transaction has to be given up before the next begins."""
    idle_since: float = field(default_factory=time.monotonic)

    @property
    def alive(self) -> bool:
        """Whether it can be used, as far as this side knows."""
        return self.smtp.sock is not None

    def close(self) -> None:
        """Drop the connection."""
        self.smtp.close()

    def quit(self) -> None:
        """Take leave, and close the connection; a farewell isn't waited for."""
        with suppress(OSError):
            self.smtp.putcmd("QUIT")
        self.smtp.close()

    def send(self, envelope: Envelope, mail: BinaryIO, size: int) -> dict[str, Result]:
        """Send a mail, and return what was said of each recipient.

        :raises OSError: the connection is lost; smtplib's own errors are such
        :raises EOFError: the same, in its own words
        """
        results: dict[str, Result] = {}
        options = self._options(envelope, mail, size)
        if isinstance(options, Result):
            return dict.fromkeys(envelope.recipients, options)
        left = envelope.recipients
        while left and self.alive:
            mail.seek(0)
            try:
                told = self._transaction(envelope.sender, left, options, mail)
            except (OSError, EOFError):
                if not results:
                    raise
                self.close()  # some have the mail: what was said of the others holds
                break
            results |= told
            left = tuple(address for address, result in told.items() if result.too_many)
            if len(left) == len(told):  # it takes none at all
                break
        return results

    def _transaction(self, sender: str, recipients: Sequence[str], options: str, mail: BinaryIO) -> dict[str, Result]:
        """Send a mail to some recipients, and return what was said of each."""
        commands = [f"MAIL FROM:<{sender}>{options}", *(f"RCPT TO:<{address}>" for address in recipients), "DATA"]
        if self.smtp.has_extn("pipelining"):
            begun, *each, start = self._at_once(commands)
        else:
            begun, *each, start = self._one_by_one(commands)
        taken = [address for address, result in zip(recipients, each, strict=True) if result.delivered]
        if start.code == _START:
            start = self._content(mail if begun.delivered and taken else None)
        if not begun.delivered:
            return dict.fromkeys(recipients, begun)
        return {**dict(zip(recipients, each, strict=True)), **dict.fromkeys(taken, start)}

    def _at_once(self, commands: Sequence[str]) -> list[Result]:
        """Send commands without waiting for their replies; return those."""
        if self._reset:
            commands = ["RSET", *commands]
        results: list[Result] = []
        for first in range(0, len(commands), _AT_ONCE):
            group = commands[first : first + _AT_ONCE]
            self.smtp.send("".join(f"{command}\r\n" for command in group))
            results += [self._read() for _ in group]
        if self._reset:
            del results[0]
        self._reset = True
        return results

    def _one_by_one(self, commands: Sequence[str]) -> list[Result]:
        """Send commands as far as each makes sense after the last; return a result for each of them all the same."""
        if self._reset:
            self._command("RSET")
        self._reset = True
        begin, *recipients, start = commands
        begun = self._command(begin)
        if not begun.delivered:
            return [begun] * len(commands)
        each = [self._command(recipient) for recipient in recipients]
        taken = any(result.delivered for result in each)
        return [begun, *each, self._command(start) if taken else each[0]]

    def _command(self, command: str) -> Result:
        self.smtp.send(f"{command}\r\n")
        return self._read()

    def _content(self, mail: BinaryIO | None) -> Result:
        """Send the mail, or nothing where nobody gets it: who has said 354 waits for the end (RFC 2920, 3.1)."""
        held = b""
        for chunk in wire_chunks(mail) if mail is not None else ():
            if held:
                self.smtp.send(held)
            held = chunk
        self.smtp.send(held + b".\r\n")
        result = self._read()
        self._reset = False
        return result

    def _read(self) -> Result:
        """Read a reply.

        :raises smtplib.SMTPResponseException: it's 421: the server hangs up, and whatever was under way is void
        """
        code, text = self.smtp.getreply()
        if code == _GONE:
            self.close()
            raise smtplib.SMTPResponseException(code, text)
        self.answered = True
        return reply(code, text, self.host)

    def _options(self, envelope: Envelope, mail: BinaryIO, size: int) -> str | Result:
        """Return the parameters of MAIL: what the mail needs, as far as the server knows it; else why it can't go."""
        options = ""
        if self.smtp.has_extn("size"):
            options += f" SIZE={size}"
        if self.smtp.has_extn("8bitmime"):
            options += " BODY=8BITMIME"
        elif has_8bit(mail):
            return failure("5.6.3", "the mail has 8-bit content, and the server doesn't know 8BITMIME", self.host)
        self.smtp.command_encoding = "ascii"
        if envelope.needs_utf8:
            if not self.smtp.has_extn("smtputf8"):
                return failure(
                    "5.6.7", "an address or a header isn't ASCII, and the server doesn't know SMTPUTF8", self.host
                )
            options += " SMTPUTF8"
            self.smtp.command_encoding = "utf-8"
        return options
