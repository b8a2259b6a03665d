"""RetrySpool: a durable, retrying message spool.

.. code-block:: python

    from retryspool import PermanentError, Queue, RetryableError

    queue = Queue.open("./spool")


    @queue.handler
    def deliver(message, payload): ...


    queue.enqueue(b"hello", headers={"to": "https://example.com/hook"})
    queue.run()
"""

from retryspool.deadline import deadline
from retryspool.errors import *  # noqa: F403 -- the whole tree, which errors.py lists in its __all__
from retryspool.errors import __all__ as _errors
from retryspool.ids import new_message_id, validate_message_id
from retryspool.model import NEVER, ZERO_TIME, Finding, MessageMetadata, Severity, State
from retryspool.plugins import get_data_factory, get_meta_factory, get_middleware, hookimpl, open_data, open_meta
from retryspool.spool import Spool

__all__ = [  # noqa: PLE0604 -- names of errors are strings
    "NEVER",
    "ZERO_TIME",
    "Finding",
    "MessageMetadata",
    "Severity",
    "Spool",
    "State",
    "deadline",
    "get_data_factory",
    "get_meta_factory",
    "get_middleware",
    "hookimpl",
    "new_message_id",
    "open_data",
    "open_meta",
    "validate_message_id",
    *_errors,
]
