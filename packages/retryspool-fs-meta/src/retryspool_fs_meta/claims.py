"""How due messages are handed out: the index proposes, the files decide."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from retryspool import records
from retryspool.deadline import check_deadline
from retryspool.errors import CorruptRecordError, StorageError
from retryspool.files import StripedLocks, pause_after
from retryspool.model import MessageMetadata, State, utc_now
from retryspool_fs_meta.held import HeldStripes
from retryspool_fs_meta.index import Index
from retryspool_fs_meta.keeper import IndexKeeper
from retryspool_fs_meta.record_files import RecordFiles
from retryspool_fs_meta.survey import Surveyor

__all__ = ["Claimer", "Request"]

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Request:
    """What a claim asks for."""

    sources: Sequence[State]
    limit: int
    lease: timedelta
    owner: str
    excluded: frozenset[str]
    oldest_first: bool

    def admits(self, record: MessageMetadata) -> bool:
        """Tell whether a record, as it turns out to be, may be claimed."""
        origin = record.claimed_from if record.state is State.ACTIVE else record.state
        return (
            (origin in self.sources or (origin is None and record.state is State.ACTIVE))
            and record.route not in self.excluded
            and records.is_claimable(record, utc_now())
        )


@dataclass(slots=True)
class _Claim:
    """A claim that is under way."""

    request: Request
    index: Index
    claimed: dict[str, MessageMetadata] = field(default_factory=dict[str, MessageMetadata])
    """By id: one that others let go of meanwhile may be met again, and by then its lease may be over."""
    untried: list[str] = field(default_factory=list[str])
    """What was taken from the index and is next, the first at the end."""
    held: list[str] = field(default_factory=list[str])
    """What was taken from the index and is locked by others."""

    @property
    def room(self) -> int:
        return self.request.limit - len(self.claimed)


class Claimer:
    """The claims of one backend instance."""

    def __init__(self, files: RecordFiles, locks: StripedLocks, surveyor: Surveyor, keeper: IndexKeeper) -> None:
        self._files = files
        self._locks = locks
        self._held = HeldStripes(locks)
        self._surveyor = surveyor
        self._keeper = keeper

    def claim(self, request: Request) -> list[MessageMetadata]:
        """Claim as many as are due, up to `limit`.

        A message whose lock is held is passed over, and tried once more when there's nothing else. If then there's
        nothing at all it's waited for, since the holder may be about to leave it here; but not for long, and no
        longer than until there's something else.
        """
        claim = _Claim(request, self._keeper.index_to_claim_from())
        try:
            self._claim_free(claim)
            self._claim_held(claim)
            if not claim.claimed and claim.held:
                self._wait(claim)
        except (OSError, StorageError) as error:
            if not claim.claimed:
                raise
            _log.warning("only %d messages of %d were claimed: %s", len(claim.claimed), request.limit, error)
        finally:
            claim.index.put_back([*claim.untried, *claim.held])
            if claim.claimed:
                self._keeper.tell(claim.claimed)
        return list(claim.claimed.values())

    def _claim_free(self, claim: _Claim) -> None:
        """Claim what is due; what others have locked is in `held` then."""
        request = claim.request
        now = utc_now()  # once: what has just been claimed is due later than that, however short the lease
        while claim.room:
            claim.untried = claim.index.take_due(
                request.sources, claim.room, now, request.excluded, oldest_first=request.oldest_first
            )
            if not claim.untried:
                break
            claim.untried.reverse()
            self._try_all(claim)

    def _claim_held(self, claim: _Claim) -> None:
        """Try once more what others had locked."""
        claim.untried, claim.held = claim.held[::-1] + claim.untried, []
        self._try_all(claim)

    def _wait(self, claim: _Claim) -> None:
        """Wait until a message that others have locked can be claimed, or there's another."""
        begun = time.monotonic()
        until = begun + self._held.patience_s
        while not claim.claimed and claim.held:
            stripes = {self._locks.stripe_of(message_id) for message_id in claim.held}
            now = time.monotonic()
            if now >= until:
                for stripe in stripes:
                    self._locks.note_stuck(stripe)
            if all(map(self._locks.is_stuck, stripes)):
                return
            check_deadline()
            threading.Event().wait(pause_after(now - begun, _LONGEST_PAUSE_S))
            self._claim_held(claim)
            if not claim.claimed:
                self._keeper.poll()
                self._claim_free(claim)

    def _try_all(self, claim: _Claim) -> None:
        """Claim what can be of `untried`, as long as there's room, and take out of it what was tried."""
        passed: set[int] = set()
        while claim.untried and claim.room:
            message_id = claim.untried[-1]
            if message_id in claim.claimed:
                claim.untried.pop()
                continue
            stripe = self._locks.stripe_of(message_id)
            if stripe in passed or not self._held.take(stripe):
                passed.add(stripe)
                claim.held.append(claim.untried.pop())
                continue
            try:
                record = self._claim_one(claim.request, claim.index, message_id)
            finally:
                self._locks.release(stripe)
            claim.untried.pop()
            if record is not None:
                claim.claimed[message_id] = record

    def _claim_one(self, request: Request, index: Index, message_id: str) -> MessageMetadata | None:
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
