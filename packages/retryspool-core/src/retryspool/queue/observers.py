"""Observers: what is told of a queue's messages as they come and go, in order to count, measure or trace them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from retryspool.errors import StorageError
from retryspool.model import MessageMetadata
from retryspool.queue.counters import CounterName
from retryspool.queue.message import Message

if TYPE_CHECKING:
    from retryspool.queue.queue import Queue

__all__ = ["Observer", "Settled", "Submission"]

_NOTHING = nullcontext()


@dataclass(slots=True, eq=False)
class Submission:
    """A message that is about to be stored."""

    record: MessageMetadata
    """As it would be stored, but for its payload's size."""
    headers: dict[str, str] = field(init=False)
    """What an observer may add to: it's stored with the message. What it says of priority or policy is too late."""
    error: StorageError | None = None
    """Why it wasn't stored, where it was one of several; known when the block ends."""

    def __post_init__(self) -> None:
        self.headers = dict(self.record.headers)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a message that was claimed."""

    record: MessageMetadata
    """As it was claimed; its headers are as they are stored."""
    became: MessageMetadata | None
    """As it was written back; None if it was deleted."""
    outcome: CounterName | Literal["kept"]
    """The counter that counts it; `kept` for a bounce that stays where it is, since its handler has failed for good."""
    seconds: float
    """How long its handler ran."""
    error: str
    """Why it failed, empty if it didn't."""


class Observer:
    """What is told of a queue's messages. All methods do nothing here; override those that you need.

    The thread that does the work calls them, and waits for them: they had better be quick. One that raises disturbs
    nothing; its exceptions are logged, once for each kind.
    """

    def added(self, queue: Queue) -> None:
        """Take note of the queue that it was added to, before it's told of anything else."""

    def closing(self) -> None:
        """Let go what is held back: the queue closes, and tells nothing more. Its stores are still open."""

    def accepting(self, messages: Sequence[Submission]) -> AbstractContextManager[object]:
        """Return what surrounds the storing of messages, one or several, in the context of who enqueues them.

        Their headers may be changed here, or as the block begins. It ends with the exception that enqueuing ends with.
        """
        del messages
        return _NOTHING

    def accepted(self, record: MessageMetadata) -> None:
        """Take note of a message that is safe; called within the block of `accepting`."""

    def claimed(self, records: Sequence[MessageMetadata]) -> None:
        """Take note of messages that a worker has claimed."""

    def attempt(self, message: Message) -> AbstractContextManager[object]:
        """Return what surrounds the call of a message's handler, in the handler's own thread and context.

        It ends with the exception that the handler ends with. A handler that's a coroutine is awaited within it.
        """
        del message
        return _NOTHING

    def settled(self, settled: Settled) -> None:
        """Take note of what has become of a message; it's stored already."""

    def lost(self, record: MessageMetadata) -> None:
        """Take note of a message whose result was discarded: its lease was lost, or the store didn't take it in time.

        Somebody else has it, or will.
        """
