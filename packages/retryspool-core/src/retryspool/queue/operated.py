"""The part of a queue that operators use: changes by hand, one message at a time or by filter, and pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from retryspool.model import MessageMetadata, State
from retryspool.queue import changes as by_hand
from retryspool.queue.bulk import Tally, select
from retryspool.queue.changes import Change
from retryspool.queue.counters import Counters
from retryspool.queue.filtering import Filter
from retryspool.queue.operations import Operations
from retryspool.queue.options import QueueOptions
from retryspool.queue.pausing import Pause, Paused, Pausing
from retryspool.spool import Spool

__all__ = ["Operated"]


class Operated:
    """What a `Queue` offers to those who look after it."""

    spool: Spool
    options: QueueOptions
    counters: Counters
    _operations: Operations

    # -- by hand -------------------------------------------------------------------------------------------------------
    # Each is one write, tried again if somebody else's came between. Each raises MessageNotFoundError if there's no
    # such message, and StateConflictError if it's in a state that this doesn't apply to. A message that a worker has
    # under its lease is such a one, unless force=True takes it away from there; that worker's result is refused then.

    def update_headers(
        self, message_id: str, changes: Mapping[str, str | None], *, force: bool = False
    ) -> MessageMetadata:
        """Set a message's headers, and remove those whose new value is None."""
        return self._operations.change(message_id, by_hand.update_headers(changes), force=force)

    def set_retry_policy(self, message_id: str, name: str, *, force: bool = False) -> MessageMetadata:
        """Choose the policy for a message's further retries; an empty name for the queue's default.

        :raises InvalidOptionError: there's no policy of that name
        """
        return self._operations.change(message_id, by_hand.set_retry_policy(name), force=force)

    def set_route(self, message_id: str, route: str, *, force: bool = False) -> MessageMetadata:
        """Name another destination for a message; an empty one for none."""
        return self._operations.change(message_id, by_hand.set_route(route), force=force)

    def set_priority(self, message_id: str, priority: int, *, force: bool = False) -> MessageMetadata:
        """Set a message's priority, 0 to 100; 1 goes before 5.

        :raises InvalidOptionError: it's outside that range
        """
        return self._operations.change(message_id, by_hand.set_priority(priority), force=force)

    def hold(self, message_id: str, *, force: bool = False) -> MessageMetadata:
        """Set an incoming, deferred or bounced message aside, until it's released."""
        return self._operations.change(message_id, by_hand.hold(), force=force)

    def release(self, message_id: str) -> MessageMetadata:
        """Let a held message go on, as incoming, due when it was before."""
        return self._operations.change(message_id, by_hand.release(), force=False)

    def retry(self, message_id: str, *, force: bool = False) -> MessageMetadata:
        """Make a message due now, whatever it waits for; one that bounced or is archived starts afresh."""
        return self._operations.change(message_id, by_hand.retry(), force=force)

    def bounce(self, message_id: str, reason: str = "", *, force: bool = False) -> MessageMetadata:
        """Give up an incoming, deferred or held message; bounce handlers get it."""
        return self._operations.change(message_id, by_hand.bounce(reason), force=force)

    def requeue(self, message_id: str) -> MessageMetadata:
        """Deliver an archived message again, as if it had just come in."""
        return self._operations.change(message_id, by_hand.requeue(), force=False)

    def delete(self, message_id: str, *, force: bool = False) -> None:
        """Delete a message, its record and its payload."""
        self._operations.delete(message_id, force=force)

    # -- many at once --------------------------------------------------------------------------------------------------

    def select(self, where: Filter) -> Iterator[MessageMetadata]:
        """Yield the records that a filter means, in no particular order, in constant memory."""
        return select(self.spool, where)

    def change_one(self, message_id: str, change: Change, *, force: bool = False) -> MessageMetadata | None:
        """Make a change to one message; returns its record afterwards, None if it was deleted."""
        if change.deletes:
            self._operations.delete(message_id, force=force)
            return None
        return self._operations.change(message_id, change, force=force)

    def change_all(
        self,
        change: Change,
        where: Filter,
        *,
        dry_run: bool = False,
        per_second: float | None = None,
        progress: Callable[[Tally], object] | None = None,
        before: Callable[[Sequence[MessageMetadata]], Iterable[MessageMetadata]] | None = None,
    ) -> Tally:
        """Make a change to all messages that a filter means; if it names no states, in those that the change is for.

        Messages that a worker has, or that somebody else changes meanwhile, are left alone and counted. What was done
        stays done if this is cut off; it may be called again.

        :param change: one of `retryspool.queue.changes`, such as `hold()`
        :param dry_run: only count, and take a sample
        :param per_second: let so many become due each second, by their due times; all at once if None
        :param progress: called with the counts so far after each batch
        :param before: called with the messages of each batch just before they're changed; those that it doesn't return
            are left out
        :raises InvalidOptionError: there's no such retry policy, or the rate isn't above 0
        """
        return self._operations.change_all(
            change,
            where,
            batch_size=self.options.batch_size,
            dry_run=dry_run,
            per_second=per_second,
            progress=progress or _nothing,
            before=before,
        )

    # -- pausing -------------------------------------------------------------------------------------------------------

    def pause(self, route: str | None = None, *, by: str = "", reason: str = "") -> Pause:
        """Let no worker of this store claim anything, or nothing of a route, until it's resumed.

        What handlers are at is finished; what was claimed and hasn't begun is given back. It outlives all processes.

        :param route: this route alone; the whole spool if None
        :raises NotSupportedError: the metadata backend keeps no notes
        """
        return Pausing(self.spool.meta).pause(route, by, reason)

    def resume(self, route: str | None = None) -> bool:
        """Let workers claim again: from the spool, or of a route; returns False if that wasn't paused.

        Routes that are paused by themselves stay so when the spool is resumed.

        :raises NotSupportedError: the metadata backend keeps no notes
        """
        return Pausing(self.spool.meta).resume(route)

    def resume_all(self) -> None:
        """Let workers claim again, from the spool and of all routes.

        :raises NotSupportedError: the metadata backend keeps no notes
        """
        Pausing(self.spool.meta).resume_all()

    def paused(self) -> Paused:
        """Return what is paused, since when, by whom and why."""
        return Pausing(self.spool.meta).get()

    # -- pruning -------------------------------------------------------------------------------------------------------

    def prune(self) -> int:
        """Delete what is kept for long enough, and return how many; a worker does so now and then.

        Archived messages last written longer than `retention_s` ago, and bounced ones, whether a bounce handler has had
        them or not, after `bounce_retention_s`.
        """
        pruned = 0
        for state, retention_s in (
            (State.ARCHIVED, self.options.retention_s),
            (State.BOUNCE, self.options.bounce_retention_s),
        ):
            if retention_s is not None:
                pruned += self._operations.prune(state, timedelta(seconds=retention_s), self.options.batch_size)
        self.counters.add("pruned", pruned)
        return pruned


def _nothing(_: Tally) -> None:
    pass
