"""Free ports on the loopback interface."""

from __future__ import annotations

import random
import socket

from retryspool_cli.servers.errors import ServerError

__all__ = ["HOST", "free_ports"]

HOST = "127.0.0.1"

_RANGE = range(12_000, 22_000)
"""Below the ports that connections get by themselves (from 32768 on Linux), with room for a second one 10,000 above."""
_TRIES = 200


def free_ports(count: int, *, second: int = 0) -> tuple[int, ...]:
    """Return ports that nobody listens on at the moment; somebody may by the time that they are used.

    They are picked at random, so that two who look at the same time hardly ever pick the same.

    :param second: the port that is so much above each must be free as well
    """
    found: list[int] = []
    for port in random.sample(_RANGE, _TRIES):
        if _is_free(port) and (not second or _is_free(port + second)):
            found.append(port)
            if len(found) == count:
                return tuple(found)
    msg = f"there are no {count} free ports on {HOST} among {_TRIES} that were tried from {_RANGE[0]} to {_RANGE[-1]}"
    raise ServerError(msg)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that have ended don't matter
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
