"""Mutants that claim, lease or fence wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

from retryspool_onefile_meta import OneFileMeta

from mutants.kinds import mutant
from mutants.races import gap
from retryspool import records
from retryspool.errors import MessageNotFoundError, StateConflictError, StorageError
from retryspool.memory import MemoryMeta
from retryspool.meta import Delete, MetaBackend, MetaCapabilities, Write, WriteResult
from retryspool.model import MessageMetadata, State, utc_now

PAGE = 10


class _Claims(MemoryMeta):
    """Claims by the interface's default, of what `_claimable` finds."""

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        return MetaBackend.claim(
            self,
            sources,
            limit=limit,
            lease=lease,
            owner=owner,
            exclude_routes=exclude_routes,
            oldest_first=oldest_first,
        )

    def due_in(self, state: State, origins: Collection[State | None]) -> list[MessageMetadata]:
        """Return what is due in a state, in order."""
        now = utc_now()
        found = [
            record
            for record in self.iter_messages(state)
            if records.is_claimable(record, now) and (state is not State.ACTIVE or record.claimed_from in origins)
        ]
        return sorted(found, key=lambda each: (each.priority, records.due_at(each), each.id))

    def _claimable(
        self, sources: Sequence[State], limit: int, excluded: frozenset[str], taken: Collection[str], rank: records.Rank
    ) -> list[MessageMetadata]:
        found = [
            record
            for state in (State.ACTIVE, *sources)
            for record in self.due_in(state, {None, *sources})
            if record.route not in excluded
        ]
        return found[:limit]


@mutant("META-18")
class ClaimIgnoresNextRetry(_Claims):
    """`claim` hands out what isn't due yet."""

    def due_in(self, state: State, origins: Collection[State | None]) -> list[MessageMetadata]:
        return super().due_in(state, origins) if state is State.ACTIVE else list(self.iter_messages(state))


@mutant("META-18")
class OldDueTimeIsKept(MemoryMeta):
    """An update to a later `next_retry` leaves the old one in the index that claims go by."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        old = self.get_meta(message_id)
        updated = super().update_meta(message_id, metadata, if_version=if_version)
        if old.state is updated.state is not State.ACTIVE and updated.next_retry > old.next_retry:
            kept = replace(updated, next_retry=old.next_retry)
            with self._store() as store:
                store.put(kept)
            return kept
        return updated


@mutant("META-19")
class ClaimIgnoresPriority(_Claims):
    """`claim` goes by age alone."""

    def due_in(self, state: State, origins: Collection[State | None]) -> list[MessageMetadata]:
        return sorted(super().due_in(state, origins), key=records.due_at)


@mutant("META-19")
class ClaimTakesTheYoungest(_Claims):
    """Within a priority, what is due last goes first."""

    def due_in(self, state: State, origins: Collection[State | None]) -> list[MessageMetadata]:
        youngest = super().due_in(state, origins)[::-1]
        return sorted(youngest, key=lambda each: each.priority)


@mutant("META-19")
class ClaimMixesSources(_Claims):
    """All sources are one heap, the order in which they were named is lost."""

    def _claimable(
        self, sources: Sequence[State], limit: int, excluded: frozenset[str], taken: Collection[str], rank: records.Rank
    ) -> list[MessageMetadata]:
        found = super()._claimable(sources, 10**6, excluded, taken, rank)
        return sorted(found, key=lambda each: (each.priority, records.due_at(each), each.id))[:limit]


@mutant("META-20")
class ClaimStopsAtItsFirstPage(_Claims):
    """`claim` looks at the first ten records of a state, and stops there."""

    def due_in(self, state: State, origins: Collection[State | None]) -> list[MessageMetadata]:
        first = self.list_messages(state).message_ids[:PAGE]
        return [record for record in super().due_in(state, origins) if record.id in first]


@mutant("META-20")
class ClaimTakesOneSource(_Claims):
    """A claim ends with the first source that has something."""

    def _claimable(
        self, sources: Sequence[State], limit: int, excluded: frozenset[str], taken: Collection[str], rank: records.Rank
    ) -> list[MessageMetadata]:
        for state in (State.ACTIVE, *sources):
            if found := [each for each in self.due_in(state, {None, *sources}) if each.route not in excluded]:
                return found[:limit]
        return []


@mutant("META-60")
class AgeComesAfterPriority(MemoryMeta):
    """`oldest_first` is taken, and does nothing."""

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        return super().claim(sources, limit=limit, lease=lease, owner=owner, exclude_routes=exclude_routes)


@mutant("META-60")
class AgeMixesSources(_Claims):
    """`oldest_first` takes the oldest of all sources together."""

    def _claimable(
        self, sources: Sequence[State], limit: int, excluded: frozenset[str], taken: Collection[str], rank: records.Rank
    ) -> list[MessageMetadata]:
        return sorted(super()._claimable(sources, 10**6, excluded, taken, rank), key=rank)[:limit]


class _Alters(MemoryMeta):
    """Claims, and then writes something else."""

    def altered(self, claimed: MessageMetadata) -> MessageMetadata:
        raise NotImplementedError

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        claimed = super().claim(
            sources,
            limit=limit,
            lease=lease,
            owner=owner,
            exclude_routes=exclude_routes,
            oldest_first=oldest_first,
        )
        with self._store() as store:
            return [store.put(self.altered(record)) for record in claimed]


@mutant("META-21")
class ClaimForgetsTheDelivery(_Alters):
    """Deliveries are counted when a handler reports, not at the claim."""

    def altered(self, claimed: MessageMetadata) -> MessageMetadata:
        return replace(claimed, deliveries=claimed.deliveries - 1)


@mutant("META-21")
class ClaimForgetsTheOrigin(_Alters):
    """A claim doesn't note the state that it was from."""

    def altered(self, claimed: MessageMetadata) -> MessageMetadata:
        return replace(claimed, claimed_from=None)


@mutant("META-21")
class LeaseIsInSeconds(_Alters):
    """The lease is taken for milliseconds, and ends a thousand times too late."""

    def altered(self, claimed: MessageMetadata) -> MessageMetadata:
        return replace(claimed, lease_expires=claimed.lease_expires + timedelta(hours=999))


@mutant("META-24")
class ClaimStealsLiveLeases(_Claims):
    """Every claim takes over what is `ACTIVE`, as recovery at start-up does."""

    def due_in(self, state: State, origins: Collection[State | None]) -> list[MessageMetadata]:
        return list(self.iter_messages(state)) if state is State.ACTIVE else super().due_in(state, origins)


@mutant("META-22")
class ExpiredLeasesAreForgotten(_Claims):
    """Nobody takes over a message whose worker died."""

    def due_in(self, state: State, origins: Collection[State | None]) -> list[MessageMetadata]:
        return [] if state is State.ACTIVE else super().due_in(state, origins)


@mutant("META-22")
class AnyoneTakesOver(_Claims):
    """A worker for other states takes over what was claimed from `BOUNCE`."""

    def due_in(self, state: State, origins: Collection[State | None]) -> list[MessageMetadata]:
        return super().due_in(state, {None, *State})


@mutant("META-22")
class TakeoverForgetsTheOrigin(_Alters):
    """A message that is taken over counts as claimed from `ACTIVE`'s default, `INCOMING`."""

    def altered(self, claimed: MessageMetadata) -> MessageMetadata:
        return replace(claimed, claimed_from=State.INCOMING) if claimed.deliveries > 1 else claimed


@mutant("META-23")
class ExcludedRoutesFillTheLimit(_Claims):
    """Messages of excluded routes count towards the limit."""

    def _claimable(
        self, sources: Sequence[State], limit: int, excluded: frozenset[str], taken: Collection[str], rank: records.Rank
    ) -> list[MessageMetadata]:
        found = super()._claimable(sources, limit, frozenset(), taken, rank)
        return [record for record in found if record.route not in excluded]


@mutant("META-24")
class TwoClaimersOfOne(_Claims):
    """A claim reads what is due, and writes it a moment later, whoever else did."""

    def _claimable(
        self, sources: Sequence[State], limit: int, excluded: frozenset[str], taken: Collection[str], rank: records.Rank
    ) -> list[MessageMetadata]:
        found = super()._claimable(sources, limit, excluded, taken, rank)
        gap()
        return found

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        return super().update_meta(message_id, metadata)


@mutant("META-25")
class AnyLimitWillDo(MemoryMeta):
    """A limit of nothing is a claim of nothing."""

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        if limit < 1:
            return []
        return super().claim(
            sources,
            limit=limit,
            lease=lease,
            owner=owner,
            exclude_routes=exclude_routes,
            oldest_first=oldest_first,
        )


@mutant("META-26")
class SaysItHasAClock(OneFileMeta):
    """It declares the store's clock, and goes by the machine's."""

    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(processes=True, durable=True, server_clock=True)


@mutant("META-27")
class RenewalAddsUp(MemoryMeta):
    """A renewal adds the lease to what was left of it."""

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[MessageMetadata | StorageError]:
        results = super().renew(claims, lease=lease)
        with self._store() as store:
            return [
                store.put(replace(result, lease_expires=claim.lease_expires + lease))
                if isinstance(result, MessageMetadata)
                else result
                for claim, result in zip(claims, results, strict=True)
            ]


@mutant("META-28")
class RenewalResurrects(MemoryMeta):
    """A renewal of a message that was deleted stores it again."""

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[MessageMetadata | StorageError]:
        results = super().renew(claims, lease=lease)
        return [
            self.store_meta(claim.id, claim) if isinstance(result, MessageNotFoundError) else result
            for claim, result in zip(claims, results, strict=True)
        ]


@mutant("META-28")
class RenewalStopsAtTheFirst(MemoryMeta):
    """A renewal raises at the first message that is gone, and renews no other."""

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[MessageMetadata | StorageError]:
        results: list[MessageMetadata | StorageError] = []
        for claim in claims:
            (result,) = super().renew([claim], lease=lease)
            if isinstance(result, StorageError):
                raise result
            results.append(result)
        return results


@mutant("META-29")
class RenewalIsUnchecked(MemoryMeta):
    """A late worker renews a lease that is another's by now."""

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[MessageMetadata | StorageError]:
        return super().renew([self.get_meta(claim.id) for claim in claims], lease=lease)


@mutant("META-29")
class LateResultsAreTakenInABatch(MemoryMeta):
    """In a batch the version of a deletion isn't looked at."""

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        return super().apply([Delete(each.message_id) if isinstance(each, Delete) else each for each in writes])


@mutant("META-29")
class LateResultsAreTaken(MemoryMeta):
    """A result is taken from whoever once held the message, as long as it's `ACTIVE`."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        try:
            return super().update_meta(message_id, metadata, if_version=if_version)
        except StateConflictError as conflict:
            if conflict.found is State.ACTIVE:
                return super().update_meta(message_id, metadata)
            raise
