"""Which message the code that runs is handling."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["current", "current_message_id"]

current: ContextVar[str | None] = ContextVar("retryspool_current_message_id", default=None)


def current_message_id() -> str | None:
    """Return the id of the message that the calling handler is given, None outside of handlers."""
    return current.get()
