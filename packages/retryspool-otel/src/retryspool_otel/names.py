"""What traces and metrics are called: by OpenTelemetry's conventions for messaging where they have a name."""

from __future__ import annotations

from typing import Final

from retryspool.queue import CounterName

__all__ = [
    "ATTEMPTS",
    "BATCH_COUNT",
    "BODY_SIZE",
    "CLAIMED_FROM",
    "COUNTERS",
    "DELIVERIES",
    "DESTINATION",
    "ERROR_TYPE",
    "MESSAGE_ID",
    "NEXT_RETRY",
    "OPERATION",
    "OPERATION_TYPE",
    "OUTCOME",
    "ROUTE_STATE",
    "STATE",
    "SYSTEM",
    "SYSTEM_NAME",
    "type_of",
]

SYSTEM: Final = "messaging.system"
SYSTEM_NAME: Final = "retryspool"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
MESSAGE_ID: Final = "messaging.message.id"
BODY_SIZE: Final = "messaging.message.body.size"
BATCH_COUNT: Final = "messaging.batch.message_count"
ERROR_TYPE: Final = "error.type"

ATTEMPTS: Final = "retryspool.message.attempts"
DELIVERIES: Final = "retryspool.message.deliveries"
CLAIMED_FROM: Final = "retryspool.message.claimed_from"
OUTCOME: Final = "retryspool.message.outcome"
NEXT_RETRY: Final = "retryspool.message.next_retry"
STATE: Final = "retryspool.message.state"
ROUTE_STATE: Final = "retryspool.route.state"

COUNTERS: Final[dict[CounterName, tuple[str, str, str]]] = {
    "accepted": ("messaging.client.sent.messages", "{message}", "Messages accepted"),
    "claimed": ("messaging.client.consumed.messages", "{message}", "Deliveries begun"),
    "delivered": ("retryspool.delivered", "{message}", "Messages handled with success"),
    "deferred": ("retryspool.deferred", "{message}", "Failures that are tried again"),
    "bounced": ("retryspool.bounced", "{message}", "Messages that failed for good"),
    "bounces_handled": ("retryspool.bounces_handled", "{message}", "Bounces that a bounce handler has dealt with"),
    "archived": ("retryspool.archived", "{message}", "Messages that were kept in the archive"),
    "set_aside": ("retryspool.set_aside", "{message}", "Messages that no handler takes, or that can't be read now"),
    "put_off": ("retryspool.put_off", "{message}", "Messages put off until their destination's rest is over"),
    "released": ("retryspool.released", "{message}", "Messages given back unhandled"),
    "lost_leases": ("retryspool.lost_leases", "{message}", "Results discarded: the message was another's by then"),
    "pruned": ("retryspool.pruned", "{message}", "Kept messages deleted by age"),
    "handler_seconds": ("retryspool.handler.time", "s", "Time spent in handlers"),
}
"""Each counter of a queue: what it's called, its unit, and what it counts."""


def type_of(error: BaseException) -> str:
    """Return what the attribute `error.type` says of an error."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
