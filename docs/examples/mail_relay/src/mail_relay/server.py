"""aiosmtpd's protocol, with a shorter way where the long one would decide the relay's speed."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from typing import Any, ClassVar

from aiosmtpd.smtp import SMTP

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
            await super().smtp_DATA(arg)
        finally:
            self._taking = False
        if self._leaving:
            self._close()

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
