"""Handlers: what a user may register as one, and which of them takes a message."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar, cast

from retryspool.errors import InvalidInputError
from retryspool.model import State
from retryspool.queue.message import Message

__all__ = ["AnyHandler", "Handle", "Handler", "Handlers"]

Handle = Callable[[Message, BinaryIO], object]
"""A handler that is a function. What it returns doesn't matter."""


class Handler(Protocol):
    """A handler that is an object: it may choose its messages."""

    def can_handle(self, message: Message, /) -> bool:
        """Tell whether this handler takes the message; if none does, it waits."""
        ...

    def handle(self, message: Message, payload: BinaryIO, /) -> object:
        """Handle the message; what this returns doesn't matter.

        :raises PermanentError: it can't be delivered, ever
        :raises RetryableError: it can't be delivered now
        """
        ...


AnyHandler = TypeVar("AnyHandler", bound=Handle | Handler)


@dataclass(frozen=True, slots=True)
class _Entry:
    handle: Handle
    can_handle: Callable[[Message], bool] | None

    @classmethod
    def of(cls, handler: object) -> _Entry:
        handle: object = getattr(handler, "handle", None) or handler
        can_handle: object = getattr(handler, "can_handle", None)
        if not (callable(handle) and (can_handle is None or callable(can_handle))):
            msg = f"{handler!r} is not a handler: it must be callable, or have a method handle(message, payload)"
            raise InvalidInputError(msg)
        if _is_async(handle):
            msg = f"{handler!r} is a coroutine function: a handler is called from a thread, and done when it returns"
            raise InvalidInputError(msg)
        return cls(cast("Handle", handle), cast("Callable[[Message], bool] | None", can_handle))


def _is_async(handle: Callable[..., object]) -> bool:
    call = handle if inspect.isroutine(handle) else type(handle).__call__
    return any(
        check(each)
        for each in (handle, call)
        for check in (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    )


class Handlers:
    """The handlers of a queue: those for messages, and those for messages that have bounced.

    They are asked in the order in which they were added; one without `can_handle` takes every message.
    """

    def __init__(self) -> None:
        self._active: tuple[_Entry, ...] = ()
        self._bounce: tuple[_Entry, ...] = ()

    def add(self, handler: object) -> None:
        """Add a handler for messages.

        :raises InvalidInputError: it isn't one
        """
        self._active = (*self._active, _Entry.of(handler))

    def add_bounce(self, handler: object) -> None:
        """Add a handler for messages that have bounced.

        :raises InvalidInputError: it isn't one
        """
        self._bounce = (*self._bounce, _Entry.of(handler))

    @property
    def sources(self) -> list[State]:
        """The states whose messages there are handlers for."""
        active = [State.INCOMING, State.DEFERRED] if self._active else []
        return [*active, State.BOUNCE] if self._bounce else active

    def choose(self, message: Message) -> Handle | None:
        """Return the first handler that takes the message, None if none does.

        A message goes to handlers by the state that it was first claimed from, also after its worker died.
        """
        for entry in self._bounce if message.claimed_from is State.BOUNCE else self._active:
            if entry.can_handle is None or entry.can_handle(message):
                return entry.handle
        return None
