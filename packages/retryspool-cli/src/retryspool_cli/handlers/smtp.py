"""Deliveries by mail: `retryspool work --smtp`.

A reply of 4xx defers the mail, one of 5xx bounces it (RFC 5321, 4.2.1). What fails before there's a mail (connecting,
the greeting, STARTTLS, AUTH) is always retried, and so is a 530: they say nothing about the mail.

Where a server takes some recipients and refuses others, the mail is sent to those it takes, and the message's header
`rcpt-to` is set to those who are put off, so that a retry goes to nobody twice. Those who are refused for good are kept
in `rcpt-refused`; once nobody is left to retry, the mail bounces, `rcpt-to` naming them. What was said of each of them
is in `rcpt-results`.

What fails before there's a mail, a 421, and a reply that says as much counts as the server's failure: enough in a row,
and the message's route rests. Any other 4xx is the mail's, or a recipient's, and shows that the server is there.
"""

from __future__ import annotations

import smtplib
import threading
import time
from collections.abc import Mapping
from typing import BinaryIO

from retryspool import PermanentError, RetryableError
from retryspool.queue import Message
from retryspool_cli.handlers.envelope import RCPT_TO, Envelope, envelope_of
from retryspool_cli.handlers.replies import (
    RCPT_RESULTS,
    Result,
    failure,
    read_results,
    reply,
    summary,
    write_results,
)
from retryspool_cli.handlers.seekable import seekable
from retryspool_cli.handlers.session import Session, SmtpServer, Tls

__all__ = ["RCPT_REFUSED", "SmtpHandler", "SmtpServer", "Tls"]

RCPT_REFUSED = "rcpt-refused"
"""The message header that lists the recipients who were refused for good while others are still to be tried."""

_IDLE_S = 60.0
"""How long a session is kept that nobody needs. It costs the server a slot."""


class SmtpHandler:
    """Send each message as a mail. Sessions are kept for the mails that follow."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._idle: list[Session] = []

    def __call__(self, message: Message, payload: BinaryIO) -> None:
        """Send the mail once.

        :raises RetryableError: somebody is to get it later
        :raises PermanentError: nobody is to get it any more, and somebody hasn't
        """
        with seekable(payload) as mail:
            envelope = envelope_of(message.headers, mail)
            try:
                results = self._send(envelope, mail, message.size)
            except (OSError, EOFError) as error:
                told = _unreachable(self._server, error)
                _note(message, {**read_results(message.headers), **dict.fromkeys(envelope.recipients, told)})
                raise RetryableError(told.text) from error
        _settle(message, results)

    def _send(self, envelope: Envelope, mail: BinaryIO, size: int) -> Mapping[str, Result]:
        """Send the mail in a session that is kept, or a new one; a kept one may turn out to be closed."""
        session = self._kept()
        if session is not None:
            try:
                return self._send_in(session, envelope, mail, size)
            except (OSError, EOFError):
                if session.answered:
                    raise
        return self._send_in(self._server.connect(), envelope, mail, size)

    def _send_in(self, session: Session, envelope: Envelope, mail: BinaryIO, size: int) -> Mapping[str, Result]:
        try:
            results = session.send(envelope, mail, size)
        except BaseException:  # also where the payload can't be read: nobody knows in the middle of what
            session.close()
            raise
        self._keep(session)
        return results

    def _kept(self) -> Session | None:
        """Return a session that was kept, the one used last; drop those that nobody has needed for long."""
        with self._lock:
            session = self._idle.pop() if self._idle else None
            long_ago = time.monotonic() - _IDLE_S
            unneeded = [each for each in self._idle if each.idle_since < long_ago]
            self._idle = [each for each in self._idle if each.idle_since >= long_ago]
        for each in unneeded:
            each.quit()
        if session is not None:
            session.answered = False
        return session

    def _keep(self, session: Session) -> None:
        if session.alive:
            session.idle_since = time.monotonic()
            with self._lock:
                self._idle.append(session)

    def stop(self) -> None:
        """End the sessions that are kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.quit()


def _settle(message: Message, results: Mapping[str, Result]) -> None:
    """Note who is left, and say what becomes of the mail."""
    earlier = read_results(message.headers)
    before = [address for address in message.headers.get(RCPT_REFUSED, "").split(", ") if address]
    refused = {a: earlier.get(a, _REFUSED_BEFORE) for a in before}
    refused |= {a: result for a, result in results.items() if result.permanent}
    deferred = {a: result for a, result in results.items() if not (result.delivered or result.permanent)}
    if not deferred and not refused:
        message.headers.pop(RCPT_RESULTS, None)
        return
    _note(message, {**deferred, **refused})
    _set(message, RCPT_TO, ", ".join(deferred or refused))
    message.headers.pop(RCPT_REFUSED, None)
    if deferred:
        if refused:
            _set(message, RCPT_REFUSED, ", ".join(refused))
        of_server = any(result.of_server for result in deferred.values())
        raise RetryableError(summary({**deferred, **refused}), concerns="route" if of_server else "message")
    raise PermanentError(summary(refused))


_REFUSED_BEFORE = failure("5.0.0", "refused before")


def _note(message: Message, results: Mapping[str, Result]) -> None:
    _set(message, RCPT_RESULTS, write_results(results))


def _set(message: Message, name: str, value: str) -> None:
    """Set a header, in whatever case it was written before."""
    for other in [other for other in message.headers if other.lower() == name]:
        del message.headers[other]
    message.headers[name] = value


def _unreachable(server: SmtpServer, error: Exception) -> Result:
    """Return what to tell of a server that gave no session, or hung up: temporary, whatever it said."""
    where = f"{server.host}:{server.port}"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error if isinstance(error.smtp_error, bytes) else str(error.smtp_error).encode()
        told = reply(error.smtp_code, said, server.host)
        return failure(f"4{told.status[1:]}", f"{where}: {told.text}", server.host)
    return failure("4.4.1", f"{where}: {str(error) or type(error).__name__}", server.host)
