"""The queue: what is enqueued is handled, retried, and bounced.

A worker is one thread that claims (`dispatcher`), several that run handlers (`crew`, `runner`) and an event loop for
those that are coroutines (`loop`), and one thread that settles the results and renews the leases meanwhile (`settler`).
What becomes of a message is decided by pure functions (`outcome`).
"""

from retryspool.queue.bulk import Tally
from retryspool.queue.changes import Change
from retryspool.queue.context import current_message_id
from retryspool.queue.counters import CounterName, Counters
from retryspool.queue.filtering import Filter
from retryspool.queue.handlers import AsyncHandle, AsyncHandler, Handle, Handler
from retryspool.queue.message import Message
from retryspool.queue.observers import Observer, Settled, Submission
from retryspool.queue.options import QueueOptions, QueueSettings
from retryspool.queue.outcome import BOUNCE_ERROR_HEADER
from retryspool.queue.pausing import Pause, Paused
from retryspool.queue.policy import DEFAULT_RETRY, ExponentialRetry, FixedRetry, RetryPolicy, ScheduledRetry
from retryspool.queue.producer import EnqueueResult, IfExists, MessageWriter, NotBefore, Outgoing
from retryspool.queue.queue import Queue
from retryspool.queue.reading import AsyncPayload
from retryspool.queue.routes import RouteOptions, RouteStatus

__all__ = [
    "BOUNCE_ERROR_HEADER",
    "DEFAULT_RETRY",
    "AsyncHandle",
    "AsyncHandler",
    "AsyncPayload",
    "Change",
    "CounterName",
    "Counters",
    "EnqueueResult",
    "ExponentialRetry",
    "Filter",
    "FixedRetry",
    "Handle",
    "Handler",
    "IfExists",
    "Message",
    "MessageWriter",
    "NotBefore",
    "Observer",
    "Outgoing",
    "Pause",
    "Paused",
    "Queue",
    "QueueOptions",
    "QueueSettings",
    "RetryPolicy",
    "RouteOptions",
    "RouteStatus",
    "ScheduledRetry",
    "Settled",
    "Submission",
    "Tally",
    "current_message_id",
]
