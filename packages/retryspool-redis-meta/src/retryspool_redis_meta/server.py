"""What kind of server answers, and whether it can do what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass

from retryspool.errors import BackendError, NotSupportedError
from retryspool_redis_meta.link import Link
from retryspool_redis_meta.scripts import OPEN

__all__ = ["FORMAT", "Server", "info", "meet", "open_store"]

FORMAT = 1
"""The version of the layout that this package reads and writes."""

_WAITAOF_SINCE = (7, 2)


@dataclass(frozen=True, slots=True)
class Server:
    """A server by name and version, such as `Redis 7.2.4`."""

    name: str
    redis_version: tuple[int, ...]
    """That of Redis which it is, or says that it's like."""


def info(link: Link, section: str) -> dict[str, str]:
    """Return a section of what the server says of itself."""
    text: bytes = link.ask("INFO", section)
    lines = text.decode(errors="replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def meet(link: Link, *, fsync: bool) -> Server:
    """Return which server it is.

    :raises NotSupportedError: it can't wait for its disk, and is to
    """
    said = info(link, "server")
    like = said.get("redis_version", "")
    name = f"Valkey {said['valkey_version']}" if "valkey_version" in said else f"Redis {like}"
    server = Server(name, tuple(int(part) for part in like.split(".") if part.isdigit()))
    if fsync and server.redis_version < _WAITAOF_SINCE:
        msg = (
            f"{link.where} is {name}, which has no WAITAOF: durability='fsync' needs Redis 7.2 or later. "
            "Upgrade it, or set its appendfsync to 'always' and leave durability at 'ack'"
        )
        raise NotSupportedError(msg)
    if fsync and info(link, "persistence").get("aof_enabled") != "1":
        msg = (
            f"{link.where} keeps no append-only file: durability='fsync' has nothing to wait for. "
            "Set its appendonly to 'yes', or leave durability at 'ack'"
        )
        raise NotSupportedError(msg)
    return server


def open_store(link: Link) -> bytes:
    """Open the store, make it if it isn't there, and return its last change.

    :raises BackendError: a later version of this package made it
    """
    found, last_change = link.write(OPEN, FORMAT, durable=False)
    if not found.isdigit() or int(found) > FORMAT:
        msg = (
            f"{link.where}: the store has format {found.decode(errors='replace')[:20]}, this version knows {FORMAT}: "
            "upgrade retryspool-redis-meta"
        )
        raise BackendError(msg)
    change: bytes = last_change
    return change
