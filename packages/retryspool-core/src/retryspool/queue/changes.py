"""What may be done to a message by hand, as pure functions from its record to the next.

Each is a `Change`, for one message (`Queue.hold` and its like) and for all that a filter means (`Queue.change_all`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from retryspool.errors import InvalidOptionError
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State
from retryspool.queue.losses import without_losses
from retryspool.queue.message import own_headers, user_headers
from retryspool.queue.options import check_range
from retryspool.queue.outcome import storable

__all__ = [
    "Change",
    "bounce",
    "combined",
    "delete",
    "hold",
    "release",
    "requeue",
    "retry",
    "set_priority",
    "set_retry_policy",
    "set_route",
    "update_headers",
]

_ALL = frozenset(State) - {State.ACTIVE}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do to messages."""

    name: str
    states: frozenset[State]
    """The states whose messages it's for."""
    made: Callable[[MessageMetadata], MessageMetadata] | None
    """The record afterwards; None deletes the message."""
    makes_due: bool = False
    """Messages can be delivered by it, at once or one after the other."""
    retry_policy: str = ""
    """The policy that has to be there."""

    @property
    def deletes(self) -> bool:
        """Whether messages are gone afterwards."""
        return self.made is None


def hold() -> Change:
    """Set incoming, deferred or bounced messages aside, until they're released."""
    states = frozenset({State.INCOMING, State.DEFERRED, State.BOUNCE, State.HOLD})
    return Change("hold", states, lambda record: replace(record, state=State.HOLD))


def release() -> Change:
    """Let held messages go on: when they were due, at once if they weren't any more."""

    def released(record: MessageMetadata) -> MessageMetadata:
        due = ZERO_TIME if record.next_retry == NEVER else record.next_retry
        return replace(record, state=State.INCOMING, next_retry=due)

    return Change("release", frozenset({State.HOLD}), released, makes_due=True)


def retry() -> Change:
    """Make messages due now; bounced and archived ones with their attempts before them again."""

    def due(record: MessageMetadata) -> MessageMetadata:
        if record.state in {State.BOUNCE, State.ARCHIVED}:
            return _afresh(record)
        state = State.DEFERRED if record.state is State.DEFERRED else State.INCOMING
        return replace(record, state=state, next_retry=ZERO_TIME)

    return Change("retry", _ALL, due, makes_due=True)


def bounce(reason: str = "") -> Change:
    """Give incoming, deferred or held messages up: bounce handlers get them next."""
    error = storable(reason) or "bounced by hand"

    def bounced(record: MessageMetadata) -> MessageMetadata:
        bounced = _uncounted(record)
        return replace(bounced, state=State.BOUNCE, next_retry=ZERO_TIME, last_error=error)

    return Change("bounce", frozenset({State.INCOMING, State.DEFERRED, State.HOLD}), bounced)


def requeue() -> Change:
    """Deliver archived messages again, as if they had just come in."""
    return Change("requeue", frozenset({State.ARCHIVED}), _afresh, makes_due=True)


def delete() -> Change:
    """Delete messages, records and payloads."""
    return Change("delete", _ALL, None)


def update_headers(changes: Mapping[str, str | None]) -> Change:
    """Set headers, and remove those whose new value is None."""

    def changed(record: MessageMetadata) -> MessageMetadata:
        new = {**user_headers(record.headers), **changes}
        kept = {name: value for name, value in new.items() if value is not None}
        return replace(record, headers={**user_headers(kept), **own_headers(record.headers)})

    return Change("update_headers", _ALL, changed)


def set_retry_policy(name: str) -> Change:
    """Choose the policy of further retries; an empty name for the queue's default."""
    return Change("set_retry_policy", _ALL, lambda record: replace(record, retry_policy_name=name), retry_policy=name)


def set_route(route: str) -> Change:
    """Name another destination; an empty one for none."""
    return Change("set_route", _ALL, lambda record: replace(record, route=route))


def set_priority(priority: int) -> Change:
    """Set the priority, 0 to 100; 1 goes before 5.

    :raises InvalidOptionError: it's outside that range
    """
    check_range("priority", priority)
    return Change("set_priority", _ALL, lambda record: replace(record, priority=priority))


def combined(changes: Sequence[Change]) -> Change:
    """Return several changes as one: made in order, in one write, to messages that all of them are for.

    :raises InvalidOptionError: there's none, or one of several deletes
    """
    if len(changes) == 1:
        return changes[0]
    steps = [change.made for change in changes if change.made is not None]
    policies = [change.retry_policy for change in changes if change.retry_policy]
    if not changes or len(steps) < len(changes):
        raise InvalidOptionError("changes that go together are one or more, and none of them deletes")

    def made(record: MessageMetadata) -> MessageMetadata:
        for step in steps:
            record = step(record)
        return record

    return Change(
        name="+".join(change.name for change in changes),
        states=frozenset(state for state in State if all(state in change.states for change in changes)),
        made=made,
        makes_due=any(change.makes_due for change in changes),
        retry_policy=policies[-1] if policies else "",
    )


def _afresh(record: MessageMetadata) -> MessageMetadata:
    """Return it as if it had just come in: due now, nothing counted."""
    return replace(_uncounted(record), state=State.INCOMING, next_retry=ZERO_TIME, attempts=0)


def _uncounted(record: MessageMetadata) -> MessageMetadata:
    """Return it as if it had never been claimed."""
    return replace(record, deliveries=0, headers=without_losses(record.headers))
