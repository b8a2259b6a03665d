"""Taking mail in: what aiosmtpd asks at each step of a session. A 250 after DATA means that the mail is on the disk."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

from aiosmtpd.smtp import SMTP, Envelope, Session

from mail_relay.settings import Address, Settings
from mail_relay.trace import Hop, header_section, hops
from retryspool import MessageMetadata, Queue, State, StorageError
from retryspool.queue import Outgoing
from retryspool_cli.handlers.envelope import MAIL_FROM, RCPT_TO, SMTPUTF8

__all__ = ["Intake", "is_full"]

_log = logging.getLogger(__name__)

_FULL = "452 4.3.1 Insufficient system storage"
_LOOK_AGAIN_S = 1.0
"""How often it's looked at how much room there is."""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class Intake:
    """The hooks of aiosmtpd."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self._settings = settings
        self._queue = queue
        self._threads = ThreadPoolExecutor(settings.threads, "enqueue")
        self._room = _EveryNowAndThen(self._look_for_room)

    def __dir__(self) -> list[str]:
        """Name the hooks: aiosmtpd looks for them among all attributes, for each connection anew."""
        return ["handle_EHLO", "handle_MAIL", "handle_RCPT", "handle_DATA"]

    def close(self) -> None:
        """Wait for the mails that are being stored."""
        self._threads.shutdown()

    async def handle_EHLO(  # noqa: N802 -- aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer what aiosmtpd can do, and doesn't tell: it takes commands one by one out of whatever has come."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_MAIL(  # noqa: N802 -- aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a sender, if there's room for a mail."""
        refused = self._room() or _script(envelope, address)
        if refused:
            return refused
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take a recipient, from clients whose mail is taken."""
        if not self._is_allowed(session):
            return "554 5.7.1 Relay access denied"
        if not address.rpartition("@")[0]:
            return "553 5.1.3 The address has no domain"
        if len(envelope.rcpt_tos) >= self._settings.max_recipients:
            return "452 4.5.3 Too many recipients"
        refused = _script(envelope, address)
        if refused:
            return refused
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    def _is_allowed(self, session: Session) -> bool:
        with suppress(ValueError):
            address = ipaddress.ip_address(_peer(session))
            address = getattr(address, "ipv4_mapped", None) or address
            return any(address in network for network in self._settings.allow)
        return False

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's name
        """Store a mail, and answer once it's stored."""
        content = envelope.original_content or b""
        headers = header_section(content)
        if hops(headers) >= self._settings.max_hops:
            return "554 5.4.6 Too many hops: this mail goes in circles"
        trace_id = secrets.token_hex(6)
        mail = self._hop(session, envelope, trace_id).header() + content
        needs_utf8 = envelope.smtp_utf8 and not (headers.isascii() and _is_ascii(envelope))
        messages = self._messages(envelope, mail, trace_id, needs_utf8=needs_utf8)
        try:
            records = await asyncio.get_running_loop().run_in_executor(self._threads, self._enqueue, messages)
        except Exception as error:  # noqa: BLE001 -- whatever went wrong, the client has to keep its mail
            _log.error("%s: can't be stored: %s", trace_id, error)
            return _FULL if is_full(error) else "451 4.3.0 The mail can't be stored now"
        ids = " ".join(record.id for record in records)
        _log.info(
            "%s: from <%s> to %d recipients, %d bytes: %s",
            trace_id,
            envelope.mail_from or "",
            len(envelope.rcpt_tos),
            len(mail),
            ids,
        )
        return f"250 2.0.0 OK: queued as {ids}"

    def _hop(self, session: Session, envelope: Envelope, trace_id: str) -> Hop:
        return Hop(
            said=session.host_name or "",
            peer=_peer(session),
            hostname=self._settings.hostname,
            protocol="UTF8SMTP" if envelope.smtp_utf8 else "ESMTP" if session.extended_smtp else "SMTP",
            trace_id=trace_id,
            when=datetime.now(UTC),
            recipient=envelope.rcpt_tos[0] if len(envelope.rcpt_tos) == 1 else "",
        )

    def _messages(self, envelope: Envelope, mail: bytes, trace_id: str, *, needs_utf8: bool) -> list[Outgoing]:
        """Return a message for each next hop, for those of the recipients that are reached by it."""
        by_hop: dict[Address, list[str]] = {}
        for recipient in dict.fromkeys(envelope.rcpt_tos):
            by_hop.setdefault(self._settings.next_hop(recipient), []).append(recipient)
        headers = {MAIL_FROM: envelope.mail_from or "<>", "trace": trace_id} | ({SMTPUTF8: "yes"} if needs_utf8 else {})
        return [
            Outgoing(payload=mail, headers=headers | {RCPT_TO: ", ".join(recipients)}, route=str(hop))
            for hop, recipients in by_hop.items()
        ]

    def _enqueue(self, messages: Sequence[Outgoing]) -> Sequence[MessageMetadata]:
        """Store all of a mail's messages.

        :raises StorageError: one can't be stored; the others were taken back, as far as no worker had them yet
        """
        if len(messages) == 1:
            (one,) = messages
            return [self._queue.enqueue(one.payload, headers=one.headers, route=one.route)]
        results = self._queue.enqueue_many(messages)
        stored = [result for result in results if isinstance(result, MessageMetadata)]
        for error in results:
            if isinstance(error, StorageError):
                for record in stored:
                    with suppress(StorageError):
                        self._queue.delete(record.id)
                raise error
        return stored

    def _look_for_room(self) -> str:
        """Return the reply that there's no room, or nothing."""
        if shutil.disk_usage(self._settings.spool).free < self._settings.min_free:
            return _FULL
        if self._settings.max_waiting:
            waiting = sum(self._queue.count(state) for state in (State.INCOMING, State.ACTIVE, State.DEFERRED))
            if waiting >= self._settings.max_waiting:
                return "452 4.3.1 Too many mails wait to be sent"
        return ""


class _EveryNowAndThen:
    """Something that is looked up again only after a while."""

    def __init__(self, look: Callable[[], str]) -> None:
        self._look = look
        self._found = ""
        self._until = 0.0

    def __call__(self) -> str:
        """Return what was found last."""
        if time.monotonic() >= self._until:
            self._found = self._look()
            self._until = time.monotonic() + _LOOK_AGAIN_S
        return self._found


def _peer(session: Session) -> str:
    """Return the client's address, as text."""
    peer: object = session.peer  # aiosmtpd's type says str
    return str(peer[0]) if isinstance(peer, tuple) else "local"


def _script(envelope: Envelope, address: str) -> str:
    if address.isascii() or envelope.smtp_utf8:
        return ""
    return "553 5.6.7 An address that isn't ASCII needs SMTPUTF8"


def _is_ascii(envelope: Envelope) -> bool:
    return (envelope.mail_from or "").isascii() and all(address.isascii() for address in envelope.rcpt_tos)


def is_full(error: BaseException | None) -> bool:
    """Tell whether an error is one of a disk without room."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return True
        error = error.__cause__
    return False
