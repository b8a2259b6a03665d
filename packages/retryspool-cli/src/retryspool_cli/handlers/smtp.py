"""Deliveries by mail: `retryspool work --smtp`.

A reply of 4xx defers the mail, one of 5xx bounces it (RFC 5321, 4.2.1). What fails before there's a mail (connecting,
the greeting, STARTTLS, AUTH) is always retried, and so is a 530: they say nothing about the mail.

Where a server takes some recipients and refuses others, the mail is sent to those it takes, and the message's header
`rcpt-to` is set to those who are put off, so that a retry goes to nobody twice. Those who are refused for good are kept
in `rcpt-refused`; once nobody is left to retry, the mail bounces, `rcpt-to` naming them.
"""

from __future__ import annotations

import smtplib
import ssl
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Literal, NoReturn

from retryspool import HandlerError, PermanentError, RetryableError
from retryspool.queue import Message
from retryspool_cli.handlers.envelope import RCPT_TO, Envelope, envelope_of, has_8bit, wire_chunks

__all__ = ["RCPT_REFUSED", "SmtpHandler", "SmtpServer", "Tls"]

RCPT_REFUSED = "rcpt-refused"
"""The message header that lists the recipients who were refused for good while others are still to be tried."""

Tls = Literal["off", "starttls", "implicit"]

_IN_MEMORY_BYTES = 1024 * 1024
_OK = 250
_START = 354
_GONE = 421
_ABOUT_US = frozenset({530, 534, 535, 538})
"""What a server says to a client that should log in, or encrypt, first (RFC 3207, RFC 4954): nothing about the mail."""


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

    def connect(self) -> smtplib.SMTP:
        """Return a session that is ready for mail.

        :raises OSError: there's none to be had; smtplib's own errors are such
        """
        if self.tls == "implicit":
            context = ssl.create_default_context()
            session: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, self.local_hostname, timeout=self.timeout_s, context=context
            )
        else:
            session = smtplib.SMTP(self.host, self.port, self.local_hostname, timeout=self.timeout_s)
        try:
            session.ehlo_or_helo_if_needed()
            if self.tls == "starttls":
                session.starttls(context=ssl.create_default_context())
                session.ehlo_or_helo_if_needed()
            if self.user:
                session.login(self.user, self.password)
        except BaseException:
            session.close()
            raise
        return session


class SmtpHandler:
    """Send each message as a mail. Sessions are kept for the mails that follow."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._idle: list[smtplib.SMTP] = []

    def __call__(self, message: Message, payload: BinaryIO) -> None:
        """Send the mail once."""
        with _seekable(payload) as mail:
            envelope = envelope_of(message.headers, mail)
            try:
                session = self._session()
            except OSError as error:
                raise RetryableError(_told(self._server, error)) from error
            try:
                outcome = _Transfer(session, envelope, mail, message.size).run()
            except (OSError, EOFError) as error:
                session.close()
                raise RetryableError(_told(self._server, error)) from error
            except HandlerError:  # the server's answer
                self._keep(session)
                raise
            except BaseException:  # the payload can't be read: nobody knows in the middle of what
                session.close()
                raise
        self._keep(session)
        self._settle(message, outcome)

    def _session(self) -> smtplib.SMTP:
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is not None:
            with suppress(OSError):
                if session.rset()[0] == _OK:
                    return session
            session.close()
        return self._server.connect()

    def _keep(self, session: smtplib.SMTP) -> None:
        if session.sock is not None:  # the type is Optional once closed, whatever the stubs say
            with self._lock:
                self._idle.append(session)

    @staticmethod
    def _settle(message: Message, outcome: _Outcome) -> None:
        """Note who is left, and say what becomes of the mail."""
        before = [address for address in message.headers.get(RCPT_REFUSED, "").split(", ") if address]
        refused = list(dict.fromkeys([*before, *outcome.refused]))
        said = [f"{address}: {_reply(*reply)}" for address, reply in (outcome.deferred | outcome.refused).items()]
        if outcome.deferred:
            message.headers[RCPT_TO] = ", ".join(outcome.deferred)
            if refused:
                message.headers[RCPT_REFUSED] = ", ".join(refused)
            raise RetryableError("; ".join(said))
        if refused:
            message.headers[RCPT_TO] = ", ".join(refused)
            message.headers.pop(RCPT_REFUSED, None)
            earlier = [f"{address}: refused before" for address in before if address not in outcome.refused]
            raise PermanentError("; ".join([*said, *earlier]))

    def stop(self) -> None:
        """End the sessions that are kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            with suppress(OSError):
                session.quit()


_Reply = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class _Outcome:
    deferred: dict[str, _Reply]
    refused: dict[str, _Reply]


class _Transfer:
    """One mail in one session."""

    def __init__(self, session: smtplib.SMTP, envelope: Envelope, mail: BinaryIO, size: int) -> None:
        self._session = session
        self._envelope = envelope
        self._mail = mail
        self._size = size

    def run(self) -> _Outcome:
        self._check_reply(*self._session.mail(self._envelope.sender, self._options()))
        replies = {address: self._session.rcpt(address) for address in self._envelope.recipients}
        accepted = [address for address, (code, _) in replies.items() if 200 <= code < 300]  # noqa: PLR2004 -- taken
        refused = {address: reply for address, reply in replies.items() if _is_permanent(reply[0])}
        deferred = {a: reply for a, reply in replies.items() if a not in refused and a not in accepted}
        if any(code == _GONE for code, _ in replies.values()):  # the server is about to hang up: nobody got anything
            self._session.close()
            raise RetryableError(_reply(*next(reply for reply in replies.values() if reply[0] == _GONE)))
        if accepted:
            self._send()
        return _Outcome(deferred, refused)

    def _options(self) -> list[str]:
        """Return the parameters of MAIL: what the mail needs, as far as the server knows it."""
        options: list[str] = []
        if self._session.has_extn("size"):
            options.append(f"SIZE={self._size}")
        if self._session.has_extn("8bitmime"):
            options.append("BODY=8BITMIME")
        elif has_8bit(self._mail):
            raise PermanentError("the mail has 8-bit content, and the server doesn't know 8BITMIME")
        if self._envelope.needs_utf8:
            if not self._session.has_extn("smtputf8"):
                raise PermanentError("an address isn't ASCII, and the server doesn't know SMTPUTF8")
            options.append("SMTPUTF8")
            self._session.command_encoding = "utf-8"
        else:
            self._session.command_encoding = "ascii"
        return options

    def _send(self) -> None:
        code, text = self._session.docmd("DATA")
        if code != _START:
            self._refuse(code, text)
        for chunk in wire_chunks(self._mail):
            self._session.send(chunk)
        self._session.send(b".\r\n")
        self._check_reply(*self._session.getreply())

    def _check_reply(self, code: int, text: bytes) -> None:
        if not 200 <= code < 300:  # noqa: PLR2004 -- success
            self._refuse(code, text)

    def _refuse(self, code: int, text: bytes) -> NoReturn:
        if code == _GONE:
            self._session.close()
        if _is_permanent(code):
            raise PermanentError(_reply(code, text))
        raise RetryableError(_reply(code, text))


def _is_permanent(code: int) -> bool:
    return code >= 500 and code not in _ABOUT_US  # noqa: PLR2004 -- RFC 5321, 4.2.1


def _reply(code: int, text: bytes) -> str:
    return f"{code} {' '.join(text.decode('utf-8', 'replace').split())}"


def _told(server: SmtpServer, error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
        return f"{server.host}:{server.port}: {_reply(error.smtp_code, text)}"
    return f"{server.host}:{server.port}: {str(error) or type(error).__name__}"


@contextmanager
def _seekable(payload: BinaryIO) -> Generator[BinaryIO]:
    """Yield the payload if it's seekable, else a copy that is, on disk where it's large."""
    if payload.seekable():
        yield payload
        return
    import shutil

    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as copy:
        shutil.copyfileobj(payload, copy)
        copy.seek(0)
        yield copy  # type: ignore[misc]  # it has all of BinaryIO
