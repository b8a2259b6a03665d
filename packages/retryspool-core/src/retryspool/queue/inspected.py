"""The part of a queue by which one looks at what is in it: messages, their numbers, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import BinaryIO

from retryspool.meta import ListOptions, ListResult, SortBy, StateCounter
from retryspool.model import Finding, MessageMetadata, State
from retryspool.records import due_at
from retryspool.spool import DEFAULT_GRACE, Discrepancy, Spool

__all__ = ["Inspected"]


class Inspected:
    """What a `Queue` offers to those who look."""

    spool: Spool

    # -- messages ------------------------------------------------------------------------------------------------------

    def get(self, message_id: str) -> MessageMetadata:
        """Return a message's record.

        :raises MessageNotFoundError: there's none
        """
        return self.spool.shown(self.spool.get(message_id))

    def open_payload(self, message_id: str) -> BinaryIO:
        """Return a readable binary file of a message's payload, as it was handed in.

        :raises MessageNotFoundError: there's no such message
        :raises DataNotFoundError: its payload is gone
        """
        return self.spool.open_payload(self.spool.get(message_id))

    def list(
        self,
        state: State,
        options: ListOptions | None = None,
        *,
        limit: int = 100,
        offset: int = 0,
        sort_by: SortBy = SortBy.CREATED,
        descending: bool = False,
        since: datetime | None = None,
    ) -> ListResult:
        """List the ids of a state's messages, sorted, a page at a time.

        :param options: all of the others in one
        """
        if options is None:
            options = ListOptions(limit=limit, offset=offset, sort_by=sort_by, descending=descending, since=since)
        return self.spool.meta.list_messages(state, options)

    def iter(self, state: State) -> Iterator[MessageMetadata]:
        """Yield the records of a state, in no particular order, in constant memory."""
        return map(self.spool.shown, self.spool.meta.iter_messages(state))

    def count(self, state: State) -> int:
        """Return how many messages are in a state."""
        meta = self.spool.meta
        if isinstance(meta, StateCounter):
            return meta.get_state_count(state)
        return meta.list_messages(state, ListOptions(limit=0)).total

    def counts(self) -> dict[State, int]:
        """Return how many messages are in each state."""
        return {state: self.count(state) for state in State}

    def oldest_due(self, state: State) -> datetime | None:
        """Return the earliest time at which a message of the state is due, or was; None without any."""
        meta = self.spool.meta
        if isinstance(meta, StateCounter):
            return meta.get_oldest_due(state)
        return min((due_at(record) for record in meta.iter_messages(state)), default=None)

    # -- faults --------------------------------------------------------------------------------------------------------

    def reconcile(self, *, grace: timedelta = DEFAULT_GRACE, dry_run: bool = False) -> Iterator[Discrepancy]:
        """Find what a crash left between records and payloads, and sweep orphan payloads on the way.

        :param grace: how old an orphan must be: longer than the longest enqueue
        :param dry_run: only report
        """
        return self.spool.reconcile(grace=grace, dry_run=dry_run)

    def check(self) -> Iterator[Finding]:
        """Yield what endangers messages: settings of the stores, and contents that can't be read."""
        return self.spool.check()
