"""What an operator does to messages by hand: each is one write, if the message still is as it was when looked at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import timedelta

from retryspool.errors import MessageNotFoundError, StateConflictError, StorageError
from retryspool.meta import Delete
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State, utc_now
from retryspool.queue.message import own_headers, user_headers
from retryspool.queue.outcome import storable
from retryspool.queue.policy import Policies
from retryspool.spool import Spool

__all__ = ["Operations"]

_TRIES = 100
_ALL = frozenset(State) - {State.ACTIVE}


class Operations:
    """Changes by hand. One that a worker has under its lease is refused unless forced: its result would be lost."""

    def __init__(self, spool: Spool, policies: Policies) -> None:
        self._spool = spool
        self._policies = policies

    def hold(self, message_id: str, *, force: bool) -> MessageMetadata:
        """Set a waiting or bounced message aside."""
        allowed = {State.INCOMING, State.DEFERRED, State.BOUNCE, State.HOLD}
        return self._change(message_id, allowed, lambda record: replace(record, state=State.HOLD), force=force)

    def release(self, message_id: str) -> MessageMetadata:
        """Let a held message go on: when it was due, at once if it wasn't any more."""

        def released(record: MessageMetadata) -> MessageMetadata:
            due = ZERO_TIME if record.next_retry == NEVER else record.next_retry
            return replace(record, state=State.INCOMING, next_retry=due)

        return self._change(message_id, {State.HOLD}, released, force=False)

    def retry(self, message_id: str, *, force: bool) -> MessageMetadata:
        """Make a message due now; a bounced or archived one with its attempts before it again."""

        def due(record: MessageMetadata) -> MessageMetadata:
            if record.state in {State.BOUNCE, State.ARCHIVED}:
                return _afresh(record)
            state = State.DEFERRED if record.state is State.DEFERRED else State.INCOMING
            return replace(record, state=state, next_retry=ZERO_TIME)

        return self._change(message_id, _ALL, due, force=force)

    def bounce(self, message_id: str, reason: str, *, force: bool) -> MessageMetadata:
        """Give a message up: bounce handlers get it next."""

        def bounced(record: MessageMetadata) -> MessageMetadata:
            error = storable(reason) or "bounced by hand"
            return replace(record, state=State.BOUNCE, next_retry=ZERO_TIME, last_error=error, deliveries=0)

        return self._change(message_id, {State.INCOMING, State.DEFERRED, State.HOLD}, bounced, force=force)

    def requeue(self, message_id: str) -> MessageMetadata:
        """Deliver an archived message again, as if it had just come in."""
        return self._change(message_id, {State.ARCHIVED}, _afresh, force=False)

    def update_headers(self, message_id: str, changes: Mapping[str, str | None], *, force: bool) -> MessageMetadata:
        """Set headers, and remove those whose new value is None."""

        def changed(record: MessageMetadata) -> MessageMetadata:
            new = {**user_headers(record.headers), **changes}
            kept = {name: value for name, value in new.items() if value is not None}
            return replace(record, headers={**user_headers(kept), **own_headers(record.headers)})

        return self._change(message_id, _ALL, changed, force=force)

    def set_retry_policy(self, message_id: str, name: str, *, force: bool) -> MessageMetadata:
        """Choose the policy of a message's further retries; an empty name for the queue's default."""
        if name:
            self._policies.require(name)
        return self._change(message_id, _ALL, lambda record: replace(record, retry_policy_name=name), force=force)

    def delete(self, message_id: str, *, force: bool) -> None:
        """Delete a message, its record and its payload."""
        for attempt in range(1, _TRIES + 1):
            record = self._waiting(message_id, _ALL, force=force)
            try:
                self._spool.delete(message_id, if_version=record.version)
            except StateConflictError:
                if attempt == _TRIES:
                    raise
            else:
                return

    def prune(self, retention: timedelta, batch_size: int) -> int:
        """Delete archived messages that were last written longer ago than `retention`; returns how many."""
        newest = utc_now() - retention
        pruned = 0
        batch: list[Delete] = []
        for record in self._spool.meta.iter_messages(State.ARCHIVED, batch_size):
            if record.updated < newest:
                batch.append(Delete(record.id, if_version=record.version))
            if len(batch) >= batch_size:
                pruned += self._delete_many(batch)
                batch = []
        return pruned + self._delete_many(batch)

    def _delete_many(self, batch: list[Delete]) -> int:
        deleted = 0
        for result in self._spool.apply(batch) if batch else ():
            if result is None:
                deleted += 1
            elif isinstance(result, StorageError) and not isinstance(
                result, (StateConflictError, MessageNotFoundError)
            ):
                raise result
        return deleted

    def _change(
        self,
        message_id: str,
        allowed: Collection[State],
        change: Callable[[MessageMetadata], MessageMetadata],
        *,
        force: bool,
    ) -> MessageMetadata:
        for attempt in range(1, _TRIES + 1):
            record = self._waiting(message_id, allowed, force=force)
            try:
                return self._spool.meta.update_meta(message_id, change(record), if_version=record.version)
            except StateConflictError:
                if attempt == _TRIES:
                    raise
        raise AssertionError

    def _waiting(self, message_id: str, allowed: Collection[State], *, force: bool) -> MessageMetadata:
        """Return the record, taken from its worker if there's none or that is forced.

        :raises StateConflictError: it's in none of the states that are allowed, or under a lease
        """
        record = self._spool.get(message_id)
        if record.state is State.ACTIVE and (force or record.lease_expires <= utc_now()):
            origin = record.claimed_from or State.INCOMING
            record = replace(record, state=origin, lease_owner="", lease_expires=ZERO_TIME, claimed_from=None)
        if record.state not in allowed:
            raise StateConflictError(message_id, found=record.state, expected=tuple(s for s in State if s in allowed))
        return record


def _afresh(record: MessageMetadata) -> MessageMetadata:
    """Return it as if it had just come in: due now, nothing counted."""
    return replace(record, state=State.INCOMING, next_retry=ZERO_TIME, attempts=0, deliveries=0)
