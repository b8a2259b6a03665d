"""aiosmtpd's protocol, with a shorter way where the long one would decide the relay's speed."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import Any, ClassVar

from aiosmtpd.smtp import SMTP, Envelope

from mail_relay.content import Content
from mail_relay.intake import Intake
from mail_relay.settings import Settings

__all__ = ["Busy", "Server"]

_LONGEST_COMMAND = 2048
_PLAIN_ADDRESS = re.compile(r"\s*<([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]*@[A-Za-z0-9.-]+|)>(?:\s+(.*))?\s*\Z")


class Server(SMTP):
    """One client's session."""

    command_size_limits: dict[str, int]
    _names: ClassVar[list[str]] = []

    def __init__(self, intake: Intake, settings: Settings, sessions: set[Server], **options: Any) -> None:
        self._sessions = sessions
        self._taking = False
        self._leaving = False
        self._waits_for_us = False
        """Whether the last that came was DATA, so that what comes next is the mail, and none of it is here yet."""
        self._content: Content | None = None
        self._complete: asyncio.Future[None] | None = None
        self._silent_until = 0.0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # aiosmtpd keeps the limits in its class: one client's EHLO would change those of the others.
        self.command_size_limits = defaultdict(lambda: _LONGEST_COMMAND)
        super().__init__(
            intake,
            hostname=settings.hostname,
            ident="RetrySpool",
            data_size_limit=settings.size_limit,
            enable_SMTPUTF8=True,
            **options,
        )

    def __dir__(self) -> list[str]:
        """Name the commands: aiosmtpd looks for them among all attributes, for each connection anew."""
        cls = type(self)
        if not cls._names:
            cls._names = [name for name in super().__dir__() if name.startswith(("smtp_", "auth_"))]
        return cls._names

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """Read an address: a plain one at once, any other by the grammar of RFC 5322, which takes its time."""
        plain = _PLAIN_ADDRESS.match(arg)
        if plain is None:
            return super()._getaddr(arg)
        return plain[1] or "<>", plain[2] or ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sessions.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)
        super().connection_lost(error)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 -- aiosmtpd's name
        self._taking = True
        try:
            if self._waits_for_us and not arg and self.envelope is not None and self.envelope.rcpt_tos:
                await self._take(self.envelope)
            else:
                await super().smtp_DATA(arg)
        finally:
            self._taking = False
        if self._leaving:
            self._close()

    async def _take(self, envelope: Envelope) -> None:
        """Take a mail in as it comes, where aiosmtpd goes by lines, and stops the connection every two kilobytes."""
        self._content = content = Content(self.data_size_limit or 0)
        self._complete = asyncio.get_running_loop().create_future()
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        await self._complete
        if content.too_large:
            status = "552 5.3.4 The mail is too large"
        else:
            envelope.content = envelope.original_content = content.mail()
            status = await self._call_handler_hook("DATA")
        self._set_post_data_state()  # type: ignore[no-untyped-call]  # aiosmtpd's
        await self.push(status)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to where they belong: to the mail that comes in, or to whoever reads commands."""
        if self._content is None:
            self._waits_for_us = data[-6:].upper() == b"DATA\r\n"
            super().data_received(data)
            return
        self._reset_timeout()
        rest = self._content.feed(data)
        if rest is not None:
            self._content = None
            if self._complete is not None and not self._complete.done():
                self._complete.set_result(None)
            if rest:
                self.data_received(rest)

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Note when the client has been silent for too long: one timer, where aiosmtpd sets a new one each time."""
        self._silent_until = self.loop.time() + (duration or self._timeout_duration)
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_at(self._silent_until, self._timeout_cb)

    def _timeout_cb(self) -> None:
        if self.loop.time() < self._silent_until:
            self._timeout_handle = self.loop.call_at(self._silent_until, self._timeout_cb)
        else:
            super()._timeout_cb()  # type: ignore[no-untyped-call]  # aiosmtpd's

    def leave(self) -> None:
        """End the session, once the mail that is under way is in."""
        self._leaving = True
        if not self._taking:
            self._close()

    def _close(self) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.write(b"421 4.3.2 The relay stops, come again\r\n")
            self.transport.close()


class Busy(asyncio.Protocol):
    """A session that can't be had now."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(b"421 4.3.2 Too many sessions, come again\r\n")
        transport.close()
