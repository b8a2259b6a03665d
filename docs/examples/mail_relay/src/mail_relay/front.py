"""A process that takes mail in."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket

from mail_relay.intake import Intake
from mail_relay.life import when_orphaned
from mail_relay.server import Busy, Server
from mail_relay.settings import Settings
from mail_relay.spool import open_spool
from retryspool import Queue

__all__ = ["run_front"]

_log = logging.getLogger(__name__)

_GRACE_S = 10.0
"""How long a stop waits for sessions that are under way."""


def run_front(settings: Settings) -> None:
    """Take mail in until SIGTERM comes, or whoever started this process is gone."""
    with open_spool(settings) as queue:
        asyncio.run(_Front(settings, queue).run())


class _Front:
    def __init__(self, settings: Settings, queue: Queue) -> None:
        self._settings = settings
        self._intake = Intake(settings, queue)
        self._sessions: set[Server] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        when_orphaned(self._settings.life_fd, lambda: loop.call_soon_threadsafe(stop.set))
        listener = socket.socket(fileno=self._settings.listen_fd)
        server = await loop.create_server(self._session, sock=listener, backlog=512)
        _log.info("taking mail at %s", self._settings.listen)
        await stop.wait()
        server.close()
        await self._end_sessions()
        await loop.run_in_executor(None, self._intake.close)

    def _session(self) -> asyncio.Protocol:
        if len(self._sessions) >= self._settings.max_sessions:
            return Busy()
        return Server(self._intake, self._settings, self._sessions, loop=asyncio.get_running_loop())

    async def _end_sessions(self) -> None:
        """Let mails that are under way come in, and tell everybody else to come again."""
        gone = [session.gone for session in self._sessions]
        for session in list(self._sessions):
            session.leave()
        if gone:
            await asyncio.wait(gone, timeout=_GRACE_S)
