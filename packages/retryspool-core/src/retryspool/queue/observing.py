"""Telling observers, none of whom can disturb the queue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from retryspool.errors import InvalidInputError, StorageError
from retryspool.model import MessageMetadata, replace
from retryspool.queue.message import Message, user_headers
from retryspool.queue.observers import Observer, Settled, Submission
from retryspool.records import validate_metadata

if TYPE_CHECKING:
    from retryspool.queue.queue import Queue

__all__ = ["Observers", "Storing"]

_log = logging.getLogger(__name__)

_NOTHING: AbstractContextManager[None] = nullcontext()

_Taken = ParamSpec("_Taken")
_Result = TypeVar("_Result")


class Observers:
    """The observers of a queue. Safe to share between threads."""

    def __init__(self) -> None:
        self.all: tuple[Observer, ...] = ()
        self._logged: set[tuple[type, str, type]] = set()

    def add(self, observer: Observer) -> None:
        """Add one.

        :raises InvalidInputError: it isn't an `Observer`
        """
        if not isinstance(observer, Observer):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"{observer!r} is not an observer: it must be an object of a class derived from retryspool.Observer"
            raise InvalidInputError(msg)
        self.all = (*self.all, observer)

    def added(self, observer: Observer, queue: Queue) -> None:
        """Tell an observer which queue it was added to."""
        self.guarded(observer, "added", observer.added, queue)

    def closing(self) -> None:
        """Tell that the queue closes."""
        for observer in self.all:
            self.guarded(observer, "closing", observer.closing)

    def accepting(self, records: Sequence[MessageMetadata]) -> Storing:
        """Return what surrounds the storing of messages, and has their records as they are to be stored."""
        return Storing(self, records)

    def claimed(self, records: Sequence[MessageMetadata]) -> None:
        """Tell of messages that were claimed."""
        for observer in self.all:
            self.guarded(observer, "claimed", observer.claimed, records)

    def attempt(self, message: Message) -> AbstractContextManager[object]:
        """Return what surrounds the call of a message's handler."""
        return _Around(self, "attempt", lambda observer: observer.attempt(message)) if self.all else _NOTHING

    def settled(self, settled: Settled) -> None:
        """Tell what became of a message."""
        for observer in self.all:
            self.guarded(observer, "settled", observer.settled, settled)

    def lost(self, record: MessageMetadata) -> None:
        """Tell of a message whose result was discarded."""
        for observer in self.all:
            self.guarded(observer, "lost", observer.lost, record)

    def guarded(
        self,
        observer: Observer,
        name: str,
        call: Callable[_Taken, _Result],
        *args: _Taken.args,
        **kwargs: _Taken.kwargs,
    ) -> _Result | None:
        """Call what is an observer's; None if it raises, which is logged once for each kind.

        :param name: the method of `Observer` that it belongs to
        """
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            # In the main thread it may be the exception of a signal's handler, such as KeyboardInterrupt.
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                raise
            kind = (type(observer), name, type(error))
            if kind not in self._logged:
                self._logged.add(kind)
                _log.exception("observer %r failed at %s(); its like isn't logged again", observer, name)
            return None


class _Around:
    """What surrounds a block, of all observers, as one. It's entered once."""

    __slots__ = ("_entered", "_make", "_name", "_observers")

    def __init__(
        self, observers: Observers, name: str, make: Callable[[Observer], AbstractContextManager[object]]
    ) -> None:
        self._observers = observers
        self._name = name
        self._make = make
        self._entered: list[tuple[Observer, AbstractContextManager[object]]] = []

    def __enter__(self) -> None:
        for observer in self._observers.all:
            self.enter(observer)

    def enter(self, observer: Observer) -> None:
        """Begin an observer's part; it has none if it fails."""
        self._observers.guarded(observer, self._name, self._enter, observer)

    def _enter(self, observer: Observer) -> None:
        manager = self._make(observer)
        manager.__enter__()
        self._entered.append((observer, manager))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._entered:
            observer, manager = self._entered.pop()
            self._observers.guarded(observer, self._name, manager.__exit__, kind, error, traceback)


class Storing:
    """The storing of messages, with what observers add to them."""

    __slots__ = ("_around", "_observers", "_submissions", "records")

    def __init__(self, observers: Observers, records: Sequence[MessageMetadata]) -> None:
        self._observers = observers
        self.records = records
        """As they are to be stored, once the block has begun."""
        self._submissions: list[Submission] = []
        self._around: _Around | None = None

    def __enter__(self) -> Self:
        if self._observers.all and self.records:
            submissions = self._submissions = [Submission(record) for record in self.records]
            around = self._around = _Around(
                self._observers, "accepting", lambda observer: observer.accepting(submissions)
            )
            for observer in self._observers.all:
                around.enter(observer)
                for submission in submissions:
                    self._observers.guarded(observer, "accepting", _take_headers, submission)
            self.records = [submission.record for submission in submissions]
        return self

    def accepted(self, record: MessageMetadata) -> None:
        """Tell of a message that is safe."""
        for observer in self._observers.all:
            self._observers.guarded(observer, "accepted", observer.accepted, record)

    def failed(self, index: int, error: StorageError) -> None:
        """Note why one of several wasn't stored."""
        if self._submissions:
            self._submissions[index].error = error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._around is not None:
            self._around.__exit__(kind, error, traceback)


def _take_headers(submission: Submission) -> None:
    """Let the record have the headers that an observer has left; those from before, if they can't be stored."""
    before = submission.record.headers
    if submission.headers == before:
        return
    try:
        headers = user_headers(submission.headers)
        submission.record = validate_metadata(replace(submission.record, headers=headers))
    finally:
        submission.headers = dict(submission.record.headers)
