"""What tests of the queue share: options beyond what users may choose, and handlers that tell what they were given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO, Protocol, Unpack

from retryspool import Message, Queue, QueueOptions, RetryPolicy, RouteOptions, Spool
from retryspool.queue import QueueSettings

PATIENCE_S = 20.0
"""How long a test waits for what has to come, before it fails."""


class NewQueue(Protocol):
    """Make a queue; `unchecked` sets options to values that users may not choose, such as a lease of half a second."""

    def __call__(
        self,
        *,
        spool: Spool | None = None,
        policies: Mapping[str, RetryPolicy] | None = None,
        routes: Mapping[str, RouteOptions] | None = None,
        unchecked: dict[str, float] | None = None,
        **settings: Unpack[QueueSettings],
    ) -> Queue: ...


def unchecked_options(options: QueueOptions, values: dict[str, float]) -> QueueOptions:
    for name, value in values.items():
        assert name in QueueOptions.__dataclass_fields__
        object.__setattr__(options, name, value)
    return options


def wait_until(condition: Callable[[], object], what: str = "", patience_s: float = PATIENCE_S) -> None:
    """Wait until the condition holds; fail if it doesn't in good time."""
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, f"in vain: {what or condition}"
        threading.Event().wait(0.005)


class Recorder:
    """A handler that keeps what it was given, then does `then`."""

    def __init__(self, then: Callable[[Message], object] = lambda _: None) -> None:
        self.given: list[tuple[str, bytes]] = []
        self.messages: list[Message] = []
        self._then = then
        self._changed = threading.Condition()

    def __call__(self, message: Message, payload: BinaryIO) -> None:
        content = payload.read()
        with self._changed:
            self.given.append((message.id, content))
            self.messages.append(message)
            self._changed.notify_all()
        self._then(message)

    @property
    def ids(self) -> list[str]:
        return [message_id for message_id, _ in self.given]

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.given) >= count, PATIENCE_S), f"{len(self.given)} of {count}"


class Gate:
    """A handler that stays in each message until opened."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self.messages: list[Message] = []
        self.left: list[str] = []

    def __call__(self, message: Message, _payload: BinaryIO) -> None:
        self.messages.append(message)
        self.entered.release()
        assert self.opened.wait(PATIENCE_S)
        self.left.append(message.id)

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE_S)
