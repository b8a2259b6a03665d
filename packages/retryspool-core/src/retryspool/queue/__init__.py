"""The queue: what is enqueued is handled, retried, and bounced.

A worker is one thread that claims (`dispatcher`), several that run handlers (`runner`), and one that settles their
results and renews the leases meanwhile (`settler`). What becomes of a message is decided by pure functions (`outcome`).
"""

from retryspool.queue.context import current_message_id
from retryspool.queue.counters import CounterName, Counters
from retryspool.queue.handlers import Handle, Handler
from retryspool.queue.message import Message
from retryspool.queue.options import QueueOptions, QueueSettings
from retryspool.queue.outcome import BOUNCE_ERROR_HEADER
from retryspool.queue.policy import DEFAULT_RETRY, ExponentialRetry, FixedRetry, RetryPolicy, ScheduledRetry
from retryspool.queue.producer import EnqueueResult, IfExists, MessageWriter, NotBefore, Outgoing
from retryspool.queue.queue import Queue

__all__ = [
    "BOUNCE_ERROR_HEADER",
    "DEFAULT_RETRY",
    "CounterName",
    "Counters",
    "EnqueueResult",
    "ExponentialRetry",
    "FixedRetry",
    "Handle",
    "Handler",
    "IfExists",
    "Message",
    "MessageWriter",
    "NotBefore",
    "Outgoing",
    "Queue",
    "QueueOptions",
    "QueueSettings",
    "RetryPolicy",
    "ScheduledRetry",
    "current_message_id",
]
