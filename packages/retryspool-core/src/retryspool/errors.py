"""Every error that RetrySpool raises, in one tree.

.. code-block:: text

    RetrySpoolError
    ├── InvalidInputError (ValueError)       what was passed in can't be right; nothing was changed
    │   ├── InvalidMessageIdError
    │   ├── InvalidMetadataError
    │   ├── InvalidOptionError
    │   └── InvalidUrlError
    ├── StorageError                         what a backend answers
    │   ├── MessageNotFoundError (KeyError)
    │   ├── MessageExistsError
    │   ├── StateConflictError               another state or version than expected
    │   ├── DataNotFoundError (KeyError)
    │   ├── DataExistsError
    │   ├── BackendClosedError
    │   ├── NotSupportedError                a capability that the backend declares off
    │   ├── DeadlineExceededError (TimeoutError)
    │   └── BackendError                     the disk, the server or the driver failed
    │       ├── BackendUnavailableError      ... and can't be reached; `outcome` says what may have happened
    │       ├── CorruptRecordError           a stored record doesn't parse
    │       └── CorruptDataError             a stored payload, or its sealed headers, aren't what was handed in
    ├── PluginError
    │   ├── UnknownPluginError (LookupError)
    │   ├── DuplicatePluginError
    │   └── PluginLoadError
    ├── QueueError                           the queue was used in a way that it can't be
    └── HandlerError                         raised *by* handlers, to say what becomes of a message
        ├── PermanentError                   bounce it
        └── RetryableError                   try again, after a delay of its own if it names one
            └── RouteError                   ... and leave the message's whole destination alone meanwhile
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from retryspool.model import State

__all__ = [
    "BackendClosedError",
    "BackendError",
    "BackendUnavailableError",
    "Concern",
    "CorruptDataError",
    "CorruptRecordError",
    "DataExistsError",
    "DataNotFoundError",
    "DeadlineExceededError",
    "DuplicatePluginError",
    "HandlerError",
    "InvalidInputError",
    "InvalidMessageIdError",
    "InvalidMetadataError",
    "InvalidOptionError",
    "InvalidUrlError",
    "MessageExistsError",
    "MessageNotFoundError",
    "NotSupportedError",
    "Outcome",
    "PermanentError",
    "PluginError",
    "PluginLoadError",
    "QueueError",
    "RetrySpoolError",
    "RetryableError",
    "RouteError",
    "StateConflictError",
    "StorageError",
    "UnknownPluginError",
    "raise_if_refused",
]


Outcome = Literal["none", "unknown"]
"""What may have happened before a backend failed: nothing at all (`"none"`), or nobody knows (`"unknown"`)."""

Concern = Literal["route", "message"]
"""Whose failure it is: the destination's (`"route"`), or one message's alone (`"message"`)."""


def _restore(kind: type[RetrySpoolError], args: tuple[object, ...], attributes: dict[str, object]) -> RetrySpoolError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class RetrySpoolError(Exception):
    """The root of the tree."""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by content: an error crosses to another process whatever arguments its class takes."""
        return _restore, (type(self), self.args, self.__dict__)


class InvalidInputError(RetrySpoolError, ValueError):
    """What was passed in can't be right. Nothing was changed."""


class InvalidMessageIdError(InvalidInputError):
    """The id isn't one that every backend can store."""


class InvalidMetadataError(InvalidInputError):
    """A field of a record has a value that it can't have."""


class InvalidOptionError(InvalidInputError):
    """An option has a value outside its range; the message names the option, the value and the range."""


class InvalidUrlError(InvalidInputError):
    """A backend's URL doesn't parse, or has a setting that the backend doesn't know."""


class StorageError(RetrySpoolError):
    """What a backend answers in place of a result."""


class _LookUpError(StorageError, KeyError):
    """A `KeyError` that prints as its text, where the built-in one prints as its `repr`."""

    __str__ = Exception.__str__


class MessageNotFoundError(_LookUpError):
    """No record has this id, in any state."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"message {message_id!r} does not exist")
        self.message_id = message_id


class MessageExistsError(StorageError):
    """A record with this id is there already: untouched, and as durable as if the caller had stored it."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"message {message_id!r} exists already")
        self.message_id = message_id


class StateConflictError(StorageError):
    """The record isn't in the state, or hasn't the version, that the caller expected. Nothing was changed."""

    def __init__(
        self,
        message_id: str,
        *,
        found: State,
        expected: State | tuple[State, ...] | None = None,
        found_version: int | None = None,
        expected_version: int | None = None,
    ) -> None:
        if expected_version is not None:
            text = f"message {message_id!r} has version {found_version}, expected {expected_version}"
        else:
            states = expected if isinstance(expected, tuple) else (expected,)
            wanted = " or ".join(repr(state.label) if state else "another" for state in states)
            text = f"message {message_id!r} is {found.label!r}, expected {wanted}"
        super().__init__(text)
        self.message_id = message_id
        self.found = found
        self.expected = expected
        self.found_version = found_version
        self.expected_version = expected_version


class DataNotFoundError(_LookUpError):
    """No payload is stored under this id."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"message {message_id!r} has no payload")
        self.message_id = message_id


class DataExistsError(StorageError):
    """A payload is stored under this id already. It was not touched."""

    def __init__(self, message_id: str) -> None:
        super().__init__(f"message {message_id!r} has a payload already")
        self.message_id = message_id


class BackendClosedError(StorageError):
    """The backend was closed; only `close()` may still be called."""

    def __init__(self, what: str = "backend") -> None:
        super().__init__(f"the {what} is closed")


class NotSupportedError(StorageError):
    """The backend declares this capability off."""


class DeadlineExceededError(StorageError, TimeoutError):
    """The time allowed by `deadline()` is over."""


class BackendError(StorageError):
    """The disk, the server or the driver failed; its own error is the cause (`__cause__`)."""


class BackendUnavailableError(BackendError):
    """The store can't be reached, or has stopped taking writes.

    `outcome` is `"none"` if the effect certainly did not happen, `"unknown"` if it may have.
    """

    def __init__(self, text: str, *, outcome: Outcome) -> None:
        super().__init__(text)
        self.outcome: Outcome = outcome


class CorruptRecordError(BackendError):
    """A stored record doesn't parse. It is kept, never deleted, never hidden."""


class CorruptDataError(BackendError):
    """A stored payload, or a message's sealed headers, aren't what was handed in. They are kept; nothing is delivered.

    :param part: which of the two
    """

    def __init__(self, message_id: str, what: str, *, part: Literal["payload", "headers"] = "payload") -> None:
        verb = "are" if part == "headers" else "is"
        super().__init__(f"the {part} of message {message_id!r} {verb} not what was handed in: {what}")
        self.message_id = message_id


class PluginError(RetrySpoolError):
    """A plugin can't be found or used."""


class UnknownPluginError(PluginError, LookupError):
    """No installed plugin has this name; the message lists those there are and what to install."""


class DuplicatePluginError(PluginError):
    """Two installed distributions offer the same name; the message names both."""


class PluginLoadError(PluginError):
    """The plugin that was asked for failed to import; its error is the cause."""


class QueueError(RetrySpoolError):
    """The queue was used in a way that it can't be: started twice, used after `close()`, and the like."""


class HandlerError(RetrySpoolError):
    """What handlers raise to say what becomes of the message. Any other exception is retried by policy."""


class PermanentError(HandlerError):
    """The message can't be delivered, now or later: bounce it."""


class RetryableError(HandlerError):
    """The message couldn't be delivered now: defer it.

    :param after: the delay until the next attempt, in seconds or as a `timedelta`; the retry policy's if not given
    :param concerns: whose failure this is: the destination's (`"route"`), as any other exception's too, so that enough
        of them in a row count as its being down; or this message's alone (`"message"`), so that it tells that the
        destination is there, as success does and `PermanentError`
    """

    def __init__(self, *args: object, after: float | timedelta | None = None, concerns: Concern = "route") -> None:
        super().__init__(*args)
        self.concerns: Concern = concerns
        self.after: timedelta | None = (
            after if isinstance(after, timedelta) or after is None else timedelta(seconds=after)
        )


class RouteError(RetryableError):
    """The message's destination takes nothing now, whatever the message: its whole route rests, from this one failure.

    :param after: for how long, and the delay until this message's next attempt; by the route's options if not given
    """

    def __init__(self, *args: object, after: float | timedelta | None = None) -> None:
        super().__init__(*args, after=after)


def raise_if_refused(error: StorageError) -> None:
    """Raise what stands for a whole batch and not for one of it. Batches call it while none of them was carried out."""
    if isinstance(error, (BackendClosedError, DeadlineExceededError)):
        raise error
