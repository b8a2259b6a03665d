"""What `--metrics` asks for: where to listen, and what has to be installed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retryspool_cli.exits import WrongUsageError

if TYPE_CHECKING:
    from retryspool_cli.watch.endpoint import Endpoint

__all__ = ["load_endpoint", "parse_listen"]

_LOOPBACK = "127.0.0.1"
_LAST_PORT = 65535


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of `9464`, `127.0.0.1:9464` or `[::1]:9464`; a port alone is one of this machine's own.

    :raises WrongUsageError: it's neither
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    is_port = port.isascii() and port.isdecimal() and int(port) <= _LAST_PORT
    if not is_port or bool(colon) is not bool(host):
        msg = f"--metrics: {text!r} is not where to listen, such as 9464, 127.0.0.1:9464 or [::1]:9464"
        raise WrongUsageError(msg)
    return host or _LOOPBACK, int(port)


def load_endpoint() -> type[Endpoint]:
    """Return the endpoint's class.

    :raises WrongUsageError: what it's made of isn't installed
    """
    try:
        from retryspool_cli.watch.endpoint import Endpoint
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "prometheus_client":
            raise
        msg = "--metrics needs prometheus-client, which isn't installed: pip install 'retryspool-cli[metrics]'"
        raise WrongUsageError(msg) from None
    return Endpoint
