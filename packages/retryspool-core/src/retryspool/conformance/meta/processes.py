"""Several processes on one store of records: races, what one sees of another, and workers that come too late."""

from __future__ import annotations

import pickle
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import cast

import pytest

from retryspool.conformance.children import Child, children
from retryspool.conformance.comparing import assert_all_same
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.players import (
    Claimed,
    all_in,
    claim_all,
    claim_until,
    do,
    prepare,
    renew_after,
    swap_all,
)
from retryspool.conformance.meta_suite import MetaSuite, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs_capability, needs_no_capability
from retryspool.errors import MessageNotFoundError, StateConflictError
from retryspool.meta import ListOptions, MetaBackend, MetaFactory, StateCounter, Store, Update
from retryspool.model import MessageMetadata, State

__all__ = ["ProcessTests", "TakeOverTests"]

HOUR = timedelta(hours=1)
SHORT = timedelta(milliseconds=30)
PATIENCE_S = 30.0


class _ProcessSuite(MetaSuite):
    @pytest.fixture
    def workers(self, meta: MetaBackend, meta_factory: MetaFactory, profile: Profile) -> Iterator[Sequence[Child]]:
        """Other processes that have this test's store open."""
        needs_capability(meta.capabilities, "processes")
        with children(profile.processes) as started:
            for child in started:
                child.call(prepare, meta_factory)
            yield started


class ProcessTests(_ProcessSuite):
    @clause("META-44", "META-24", "META-20", level=Level.CONCURRENT)
    def test_processes_that_claim_share_the_messages_out(
        self, meta: MetaBackend, workers: Sequence[Child], profile: Profile
    ) -> None:
        ids = _fill(meta, profile.messages)
        start = time.monotonic_ns() + 5_000_000
        for number, worker in enumerate(workers):
            worker.begin(claim_all, f"worker-{number}", 5, start)
        claims = [claim for worker in workers for claim in cast("list[Claimed]", worker.line())]

        taken = Counter(each for claim in claims for each in claim.message_ids)
        assert_all_same(dict.fromkeys(ids, 1), taken, "the number of claims of")
        # What was claimed later was due all the time before.
        last = max(claim.began for claim in claims if claim.message_ids)
        assert [] == [claim for claim in claims if not claim.message_ids and claim.ended < last]
        assert {State.ACTIVE} == {record.state for record in everything(meta).values()}

    @clause("META-44", "META-15", "META-11", level=Level.CONCURRENT)
    def test_of_processes_that_change_the_same_version_one_wins(
        self, meta: MetaBackend, workers: Sequence[Child], profile: Profile
    ) -> None:
        ids = _fill(meta, profile.messages)
        start = time.monotonic_ns() + 5_000_000
        for number, worker in enumerate(workers):
            worker.begin(swap_all, f"worker-{number}", ids, start)
        results = [cast("dict[str, str]", worker.line()) for worker in workers]

        for message_id in ids:
            came_to = Counter(result[message_id] for result in results)
            assert {"won": 1, "StateConflictError": len(workers) - 1} == came_to, message_id
        assert {(State.HOLD, 2)} == {(record.state, record.version) for record in everything(meta).values()}

    @clause("META-44", level=Level.CONCURRENT)
    def test_what_one_process_has_written_another_sees_at_once(
        self, meta: MetaBackend, workers: Sequence[Child], profile: Profile
    ) -> None:
        worker = workers[0]
        for number in range(profile.examples):
            message_id = f"m{number}"
            stored = meta.store_meta(message_id, MessageMetadata(message_id))
            assert stored == worker.call(do, "get_meta", [message_id])
            updated = worker.call(do, "update_meta", [message_id, MessageMetadata(message_id, State.HOLD, attempts=3)])
            assert updated == meta.get_meta(message_id)
            assert (message_id,) == meta.list_messages(State.HOLD).message_ids
            assert [updated] == list(meta.iter_messages(State.HOLD))
            assert not isinstance(meta, StateCounter) or meta.get_state_count(State.HOLD) == 1
            moved = meta.move_to_state(message_id, State.HOLD, State.DEFERRED)
            assert ([moved], []) == (worker.call(all_in, State.DEFERRED), worker.call(all_in, State.HOLD))
            (claimed,) = _claim(worker, "there", State.DEFERRED, HOUR)
            assert (claimed, []) == (
                meta.get_meta(message_id),
                meta.claim([State.DEFERRED], limit=1, lease=HOUR, owner="here"),
            )
            worker.call(do, "delete_meta", [message_id], {"if_version": claimed.version})
            with pytest.raises(MessageNotFoundError):
                meta.get_meta(message_id)
            assert 0 == meta.list_messages(State.ACTIVE, ListOptions(limit=0)).total

    @clause("META-44", "FACTORY-3", level=Level.CONCURRENT)
    def test_what_cannot_be_shared_by_processes_does_not_look_so(
        self, meta: MetaBackend, meta_factory: MetaFactory
    ) -> None:
        needs_no_capability(meta.capabilities, "processes")
        meta.store_meta("m", MessageMetadata("m"))
        try:
            pickle.dumps(meta_factory)
        except (TypeError, AttributeError, pickle.PicklingError):
            return  # nobody gets a wrong store
        with children(1) as (child,):
            child.call(prepare, meta_factory)
            assert [] == child.call(all_in, State.INCOMING)
            child.call(do, "store_meta", ["other", MessageMetadata("other")])
        assert ["m"] == list(everything(meta))


class TakeOverTests(_ProcessSuite):
    @clause("META-29", "META-22", level=Level.CONCURRENT)
    def test_a_process_that_slept_too_long_settles_nothing(self, meta: MetaBackend, workers: Sequence[Child]) -> None:
        ids = _fill(meta, 4)
        late = {claim.id: claim for claim in _claim(workers[0], "late", State.INCOMING, SHORT)}
        assert sorted(ids) == sorted(late)

        taken = {record.id: record for record in _take_over(meta, 4)}

        for message_id, settle in zip(ids, (_update, _delete, _renew, _apply), strict=True):
            refused = settle(workers[0], late[message_id])
            assert [StateConflictError] == [type(each) for each in refused], settle.__name__
        assert taken == everything(meta)
        assert {("w", 2, State.INCOMING)} == {(r.lease_owner, r.deliveries, r.claimed_from) for r in taken.values()}

    @clause("META-29", "META-24", "META-27", level=Level.CONCURRENT)
    def test_a_renewal_and_a_take_over_at_the_same_moment_have_one_winner(
        self, meta: MetaBackend, workers: Sequence[Child], profile: Profile, seed: int
    ) -> None:
        chance = random.Random(seed)
        first, second = workers[:2]
        for number in range(profile.racers):
            message_id = f"m{number}"
            meta.store_meta(message_id, MessageMetadata(message_id))
            (claim,) = _claim(first, "first", State.INCOMING, SHORT)
            assert message_id == claim.id

            second.begin(claim_until, "second", SHORT.total_seconds() * 1.5)
            first.begin(renew_after, claim, SHORT.total_seconds() * chance.uniform(0.8, 1.1))
            renewed, taken = first.line(), second.line()

            assert (renewed, taken) in [("MessageMetadata", []), ("StateConflictError", [message_id])]
            found = meta.get_meta(message_id)
            assert ("second" if taken else "first", 3) == (found.lease_owner, found.version)
            meta.delete_meta(message_id)


def _fill(meta: MetaBackend, number: int) -> list[str]:
    ids = [f"m{each}" for each in range(number)]
    for at in range(0, number, 100):
        meta.apply([Store(MessageMetadata(message_id)) for message_id in ids[at : at + 100]])
    return ids


def _claim(worker: Child, owner: str, source: State, lease: timedelta) -> list[MessageMetadata]:
    options = {"limit": 10, "lease": lease, "owner": owner}
    return cast("list[MessageMetadata]", worker.call(do, "claim", [[source]], options))


def _take_over(meta: MetaBackend, number: int) -> list[MessageMetadata]:
    taken: list[MessageMetadata] = []
    until = time.monotonic() + PATIENCE_S
    while len(taken) < number and time.monotonic() < until:
        taken += meta.claim([State.INCOMING], limit=number, lease=HOUR, owner="w")
        threading.Event().wait(0.01)
    return taken


def _refusal(worker: Child, method: str, args: Sequence[object], options: dict[str, object]) -> list[object]:
    """Return what a call came to for each message; an error that is raised, as a batch would return it."""
    try:
        result = worker.call(do, method, args, options)
    except StateConflictError as error:
        return [error]
    return cast("list[object]", result) if isinstance(result, list) else [result]


def _update(worker: Child, claim: MessageMetadata) -> list[object]:
    return _refusal(worker, "update_meta", [claim.id, MessageMetadata(claim.id)], {"if_version": claim.version})


def _delete(worker: Child, claim: MessageMetadata) -> list[object]:
    return _refusal(worker, "delete_meta", [claim.id], {"if_version": claim.version})


def _renew(worker: Child, claim: MessageMetadata) -> list[object]:
    return _refusal(worker, "renew", [[claim]], {"lease": HOUR})


def _apply(worker: Child, claim: MessageMetadata) -> list[object]:
    return _refusal(worker, "apply", [[Update(MessageMetadata(claim.id), claim.version)]], {})
