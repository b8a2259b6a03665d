"""How due messages are handed out: the index proposes, the files decide."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from retryspool import records
from retryspool.errors import CorruptRecordError, StorageError
from retryspool.files import StripedLocks
from retryspool.model import MessageMetadata, State, utc_now
from retryspool_fs_meta.index import Index
from retryspool_fs_meta.keeper import IndexKeeper
from retryspool_fs_meta.record_files import RecordFiles
from retryspool_fs_meta.survey import Surveyor

__all__ = ["Claimer"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Request:
    sources: Sequence[State]
    limit: int
    lease: timedelta
    owner: str
    excluded: frozenset[str]

    def admits(self, record: MessageMetadata) -> bool:
        """Tell whether a record, as it turns out to be, may be claimed."""
        origin = record.claimed_from if record.state is State.ACTIVE else record.state
        return (
            (origin in self.sources or (origin is None and record.state is State.ACTIVE))
            and record.route not in self.excluded
            and records.is_claimable(record, utc_now())
        )


class Claimer:
    """The claims of one backend instance."""

    def __init__(self, files: RecordFiles, locks: StripedLocks, surveyor: Surveyor, keeper: IndexKeeper) -> None:
        self._files = files
        self._locks = locks
        self._surveyor = surveyor
        self._keeper = keeper

    def claim(
        self,
        sources: Sequence[State],
        limit: int,
        lease: timedelta,
        owner: str,
        excluded: frozenset[str],
        *,
        oldest_first: bool,
    ) -> list[MessageMetadata]:
        """Claim as many as are due, up to `limit`.

        A message whose lock is held is left for another time, unless there's nothing else: then it's waited for, since
        the holder may be about to leave it here.
        """
        request = _Request(sources, limit, lease, owner, excluded)
        index = self._keeper.index_to_claim_from()
        now = utc_now()  # once: what has just been claimed is due later than that, however short the lease
        claimed: list[MessageMetadata] = []
        busy: list[str] = []
        untried: list[str] = []
        try:
            while len(claimed) < limit:
                untried = index.take_due(sources, limit - len(claimed), now, excluded, oldest_first=oldest_first)
                if not untried:
                    if claimed or not busy:
                        break
                    untried, busy = busy[:limit], busy[limit:]
                    self._claim(request, index, untried, claimed, None)
                else:
                    self._claim(request, index, untried, claimed, busy)
        except (OSError, StorageError) as error:
            if not claimed:
                raise
            _log.warning("only %d messages of %d were claimed: %s", len(claimed), limit, error)
        finally:
            index.put_back([*untried, *busy])
            if claimed:
                self._keeper.tell(record.id for record in claimed)
        return claimed

    def _claim(
        self,
        request: _Request,
        index: Index,
        untried: list[str],
        claimed: list[MessageMetadata],
        busy: list[str] | None,
    ) -> None:
        """Claim what can be of `untried`, and take out of it what was tried."""
        untried.reverse()
        while untried:
            message_id = untried[-1]
            stripe = self._locks.stripe_of(message_id)
            if busy is None:
                self._locks.acquire(stripe)
            elif not self._locks.try_acquire(stripe):
                busy.append(untried.pop())
                continue
            try:
                record = self._claim_one(request, index, message_id)
            finally:
                self._locks.release(stripe)
            untried.pop()
            if record is not None:
                claimed.append(record)

    def _claim_one(self, request: _Request, index: Index, message_id: str) -> MessageMetadata | None:
        try:
            stored = self._files.read(message_id, index.state_of(message_id))
        except CorruptRecordError:
            self._surveyor.set_aside_locked(message_id)
            return None
        if stored is None:
            index.remove(message_id)
            return None
        if not request.admits(stored.record):
            self._files.put_in_place(stored.record, stored.place)  # what a kill has cut off
            index.put(stored.record)
            return None
        record = records.claimed(stored.record, owner=request.owner, lease=request.lease, now=utc_now())
        self._files.lease(stored, record)
        index.put(record)
        return record
