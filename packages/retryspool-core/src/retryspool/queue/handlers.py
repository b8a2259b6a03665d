"""Handlers: what a user may register as one, and which of them takes a message."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar, cast

from retryspool.errors import InvalidInputError
from retryspool.model import State
from retryspool.queue.message import Message
from retryspool.queue.reading import AsyncPayload

__all__ = ["AnyHandler", "AsyncHandle", "AsyncHandler", "Entry", "Handle", "Handler", "Handlers"]

Handle = Callable[[Message, BinaryIO], object]
"""A handler that is a function. What it returns doesn't matter."""

AsyncHandle = Callable[[Message, AsyncPayload], Awaitable[object]]
"""A handler that is an `async def` function. What it returns doesn't matter."""


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


class AsyncHandler(Protocol):
    """A handler that is an object whose `handle` is an `async def` method."""

    def can_handle(self, message: Message, /) -> bool:
        """Tell whether this handler takes the message; called from a thread, it's no coroutine."""
        ...

    def handle(self, message: Message, payload: AsyncPayload, /) -> Awaitable[object]:
        """Handle the message; what this returns doesn't matter. Its errors mean what those of a `Handler` do."""
        ...


AnyHandler = TypeVar("AnyHandler", bound=Handle | Handler | AsyncHandle | AsyncHandler)


@dataclass(frozen=True, slots=True)
class Entry:
    """One handler as it was registered."""

    handle: Callable[..., object]
    can_handle: Callable[[Message], bool] | None
    is_async: bool
    """It's given an `AsyncPayload`, in an event loop, and what it returns is awaited."""

    @classmethod
    def of(cls, handler: object) -> Entry:
        """Return a handler's entry.

        :raises InvalidInputError: it isn't a handler
        """
        handle: object = getattr(handler, "handle", None) or handler
        can_handle: object = getattr(handler, "can_handle", None)
        if not (callable(handle) and (can_handle is None or callable(can_handle))):
            msg = f"{handler!r} is not a handler: it must be callable, or have a method handle(message, payload)"
            raise InvalidInputError(msg)
        if _is(inspect.isgeneratorfunction, handle) or _is(inspect.isasyncgenfunction, handle):
            msg = f"{handler!r} is a generator function: nobody would run it; a handler is done when it returns"
            raise InvalidInputError(msg)
        if can_handle is not None and _is(inspect.iscoroutinefunction, can_handle):
            msg = f"can_handle of {handler!r} is a coroutine function: it must return True or False"
            raise InvalidInputError(msg)
        return cls(
            handle,
            cast("Callable[[Message], bool] | None", can_handle),
            is_async=_is(inspect.iscoroutinefunction, handle),
        )


def _is(check: Callable[[object], bool], function: Callable[..., object]) -> bool:
    call: object = function if inspect.isroutine(function) else type(function).__call__
    return check(function) or check(call)


class Handlers:
    """The handlers of a queue: those for messages, and those for messages that have bounced.

    They are asked in the order in which they were added; one without `can_handle` takes every message.
    """

    def __init__(self) -> None:
        self._active: tuple[Entry, ...] = ()
        self._bounce: tuple[Entry, ...] = ()

    def add(self, handler: object) -> None:
        """Add a handler for messages.

        :raises InvalidInputError: it isn't one
        """
        self._active = (*self._active, Entry.of(handler))

    def add_bounce(self, handler: object) -> None:
        """Add a handler for messages that have bounced.

        :raises InvalidInputError: it isn't one
        """
        self._bounce = (*self._bounce, Entry.of(handler))

    @property
    def sources(self) -> list[State]:
        """The states whose messages there are handlers for."""
        active = [State.INCOMING, State.DEFERRED] if self._active else []
        return [*active, State.BOUNCE] if self._bounce else active

    @property
    def need_threads(self) -> bool:
        """Whether any of them runs in a thread of its own: it's no coroutine."""
        return not all(entry.is_async for entry in (*self._active, *self._bounce))

    @property
    def have_coroutines(self) -> bool:
        """Whether any of them runs in an event loop."""
        return any(entry.is_async for entry in (*self._active, *self._bounce))

    def choose(self, message: Message) -> Entry | None:
        """Return the first handler that takes the message, None if none does.

        A message goes to handlers by the state that it was first claimed from, also after its worker died.
        """
        for entry in self._bounce if message.claimed_from is State.BOUNCE else self._active:
            if entry.can_handle is None or entry.can_handle(message):
                return entry
        return None
