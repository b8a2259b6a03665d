"""RetrySpool: a durable, retrying message spool.

.. code-block:: python

    from retryspool import PermanentError, Queue, RetryableError

    queue = Queue.open("./spool")


    @queue.handler
    def deliver(message, payload): ...


    queue.enqueue(b"hello", headers={"to": "https://example.com/hook"})
    queue.run()
"""

import logging as _logging

from retryspool.deadline import deadline
from retryspool.errors import (
    BackendClosedError,
    BackendError,
    BackendUnavailableError,
    CorruptDataError,
    CorruptRecordError,
    DataExistsError,
    DataNotFoundError,
    DeadlineExceededError,
    DuplicatePluginError,
    HandlerError,
    InvalidInputError,
    InvalidMessageIdError,
    InvalidMetadataError,
    InvalidOptionError,
    InvalidUrlError,
    MessageExistsError,
    MessageNotFoundError,
    NotSupportedError,
    Outcome,
    PermanentError,
    PluginError,
    PluginLoadError,
    QueueError,
    RetryableError,
    RetrySpoolError,
    RouteError,
    StateConflictError,
    StorageError,
    UnknownPluginError,
)
from retryspool.ids import new_message_id, validate_message_id
from retryspool.meta import ListOptions, ListResult, SortBy
from retryspool.model import NEVER, ZERO_TIME, Finding, MessageMetadata, Severity, State
from retryspool.plugins import get_data_factory, get_meta_factory, get_middleware, hookimpl, open_data, open_meta
from retryspool.queue import (
    AsyncHandler,
    AsyncPayload,
    Change,
    Counters,
    ExponentialRetry,
    Filter,
    FixedRetry,
    Handler,
    Message,
    MessageWriter,
    Observer,
    Outgoing,
    Queue,
    QueueOptions,
    RetryPolicy,
    RouteOptions,
    RouteStatus,
    ScheduledRetry,
    Tally,
    current_message_id,
)
from retryspool.spool import Spool

__all__ = [
    "NEVER",
    "ZERO_TIME",
    "AsyncHandler",
    "AsyncPayload",
    "BackendClosedError",
    "BackendError",
    "BackendUnavailableError",
    "Change",
    "CorruptDataError",
    "CorruptRecordError",
    "Counters",
    "DataExistsError",
    "DataNotFoundError",
    "DeadlineExceededError",
    "DuplicatePluginError",
    "ExponentialRetry",
    "Filter",
    "Finding",
    "FixedRetry",
    "Handler",
    "HandlerError",
    "InvalidInputError",
    "InvalidMessageIdError",
    "InvalidMetadataError",
    "InvalidOptionError",
    "InvalidUrlError",
    "ListOptions",
    "ListResult",
    "Message",
    "MessageExistsError",
    "MessageMetadata",
    "MessageNotFoundError",
    "MessageWriter",
    "NotSupportedError",
    "Observer",
    "Outcome",
    "Outgoing",
    "PermanentError",
    "PluginError",
    "PluginLoadError",
    "Queue",
    "QueueError",
    "QueueOptions",
    "RetryPolicy",
    "RetrySpoolError",
    "RetryableError",
    "RouteError",
    "RouteOptions",
    "RouteStatus",
    "ScheduledRetry",
    "Severity",
    "SortBy",
    "Spool",
    "State",
    "StateConflictError",
    "StorageError",
    "Tally",
    "UnknownPluginError",
    "current_message_id",
    "deadline",
    "get_data_factory",
    "get_meta_factory",
    "get_middleware",
    "hookimpl",
    "new_message_id",
    "open_data",
    "open_meta",
    "validate_message_id",
]

_logging.getLogger(__name__).addHandler(_logging.NullHandler())  # silent until somebody wants to hear
