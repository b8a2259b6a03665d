"""Processes that are killed at work: what was acknowledged to them must be there, and nothing torn, stuck or twice."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import assert_never, cast

from retryspool import records
from retryspool.conformance.checker import explain
from retryspool.conformance.children import Child, children
from retryspool.conformance.histories import Operation
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.histories import IDS, LONG, SHORT, end_history
from retryspool.conformance.meta.players import Part, play_aloud, play_history, prepare
from retryspool.conformance.meta.sequential import judged, step
from retryspool.conformance.meta.toiling import LEASE, Claim, Did, Intends, Renew, toil
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs_capability
from retryspool.meta import Delete, ListOptions, MetaBackend, MetaFactory, Move, StateCounter, Store, Update, Write
from retryspool.model import ZERO_TIME, MessageMetadata, State

__all__ = ["KillTests"]

HOUR = timedelta(hours=1)
PATIENCE_S = 30.0
_LEAST, _MOST = 10, 150
"""So many things are heard of a process before it's killed, at some moment after."""


class KillTests(MetaSuite):
    @clause("META-48", "META-13", "META-22", "META-38", level=Level.DURABLE)
    def test_what_was_acknowledged_to_a_process_that_is_killed_is_there(
        self, meta: MetaBackend, meta_factory: MetaFactory, open_meta: OpenMeta, profile: Profile, seed: int
    ) -> None:
        needs_capability(meta.capabilities, "processes")
        chance = random.Random(seed)
        ledger = _Ledger()
        unheard: set[str] = set()
        for round_ in range(profile.kills):
            with children(1) as (child,):
                child.begin(toil, meta_factory, f"{seed}-{round_}")
                ledger.hear([child.line() for _ in range(chance.randint(_LEAST, _MOST))])
                ledger.hear(child.kill())

            reopened = open_meta()
            found = everything(reopened)
            assert found == everything(meta)
            unheard |= ledger.audit(found)
            _assert_counts(reopened, found, set())
            _assert_counts(meta, found, unheard)
            _inherit(meta, reopened, found, unheard)
            reopened.close()
            ledger.expected = everything(meta)

    @clause("META-48", "META-49", level=Level.DURABLE)
    def test_a_history_in_which_a_client_is_killed_has_an_order(
        self, meta: MetaBackend, meta_factory: MetaFactory, profile: Profile, seed: int
    ) -> None:
        needs_capability(meta.capabilities, "processes")
        chance = random.Random(seed)
        with children(2) as survivors:
            for child in survivors:
                child.call(prepare, meta_factory)
            for round_ in range(profile.kills):
                lease = SHORT if round_ % 2 else LONG
                with children(1) as (victim,):
                    victim.call(prepare, meta_factory)
                    start = time.monotonic_ns() + 2_000_000
                    part = Part(0, IDS, f"{seed} {round_}", lease, profile.operations, start)
                    for number, child in enumerate(survivors, 1):
                        child.begin(play_history, replace(part, number=number))
                    victim.begin(play_aloud, part)
                    done = _hear_a_victim(victim, chance.randint(1, profile.operations))
                done += [each for child in survivors for each in cast("Sequence[Operation]", child.line())]

                wrong = explain(judged([*done, *end_history(meta)]), None, step)
                assert not wrong, f"round {round_} of seed {seed}\n{wrong}"


class _Ledger:
    """What must be in the store."""

    def __init__(self) -> None:
        self.expected: dict[str, MessageMetadata] = {}
        self._intended: Sequence[Write | Claim | Renew] = ()

    def hear(self, said: Sequence[object]) -> None:
        """Note what the process said."""
        for each in said:
            if isinstance(each, Intends):
                self._intended = each.calls
            elif isinstance(each, Did):
                self._intended = ()
                self.expected |= {record.id: record for record in each.records}
                for message_id in each.gone:
                    del self.expected[message_id]

    def audit(self, found: dict[str, MessageMetadata]) -> set[str]:
        """Compare: only what the process was about to do when it was killed may be done or not done.

        :returns: the messages with which it was done, though nobody was told
        """
        for message_id in found.keys() | self.expected.keys():
            is_, before = found.get(message_id), self.expected.get(message_id)
            allowed = [_but_for_times(after) for call in self._intended for after in _after(call, message_id, before)]
            assert is_ == before or _but_for_times(is_) in allowed, (
                f"message {message_id!r} is {is_}, but {before} was acknowledged; underway: {self._intended}"
            )
        self._intended = ()
        return {each for each in found.keys() | self.expected.keys() if found.get(each) != self.expected.get(each)}


def _after(
    call: Write | Claim | Renew, message_id: str, before: MessageMetadata | None
) -> list[MessageMetadata | None]:
    """Return what a call would leave of a message; nothing if it isn't about it."""
    if isinstance(call, Claim):
        is_due = before is not None and State.INCOMING in {before.state, before.claimed_from}
        return [records.claimed(before, owner=call.owner, lease=LEASE, now=before.updated)] if before and is_due else []
    if message_id != (call.metadata.id if isinstance(call, (Store, Update)) else call.message_id):
        return []
    if isinstance(call, Store):
        return [records.created(call.metadata, ZERO_TIME)]
    return [] if before is None else [_changed(before, call)]


def _changed(before: MessageMetadata, call: Update | Move | Delete | Renew) -> MessageMetadata | None:
    match call:
        case Update(metadata):
            return records.updated(before, metadata, before.updated)
        case Move(_, from_state, to_state):
            return records.moved(before, from_state, to_state, before.updated)
        case Renew():
            return records.renewed(before, before, lease=LEASE, now=before.updated)
        case Delete():
            return None
        case _:
            assert_never(call)


def _but_for_times(record: MessageMetadata | None) -> MessageMetadata | None:
    if record is None:
        return None
    expires = ZERO_TIME if record.lease_owner else record.lease_expires
    return replace(record, created=ZERO_TIME, updated=ZERO_TIME, lease_expires=expires)


def _assert_counts(meta: MetaBackend, found: dict[str, MessageMetadata], unheard: set[str]) -> None:
    """Compare listings and counts.

    :param unheard: what nobody was told of: an instance that goes on may list it later
    """
    for state in State:
        expected = {record.id for record in found.values() if record.state is state}
        listed = meta.list_messages(state, ListOptions(limit=len(found) + len(unheard) + 1))
        assert expected ^ set(listed.message_ids) <= unheard
        assert listed.total == len(listed.message_ids)
        assert not isinstance(meta, StateCounter) or listed.total == meta.get_state_count(state)


def _inherit(meta: MetaBackend, reopened: MetaBackend, found: dict[str, MessageMetadata], unheard: set[str]) -> None:
    """Claim what is left and what the dead have held, each once and not before its lease is over; then delete it."""
    due = {id_ for id_, record in found.items() if State.INCOMING in {record.state, record.claimed_from}}
    claimed: list[MessageMetadata] = []
    for heir, its in ((meta, due - unheard), (reopened, due)):
        until = time.monotonic() + PATIENCE_S
        while not its <= {record.id for record in claimed} and time.monotonic() < until:
            claimed += heir.claim([State.INCOMING], limit=100, lease=HOUR, owner="heir")
            threading.Event().wait(0.01)

    assert sorted(due) == sorted(record.id for record in claimed)
    early = [record for record in claimed if record.updated < found[record.id].lease_expires]
    assert [] == early, "claimed before the lease of the dead was over"
    assert [None] * len(claimed) == meta.apply([Delete(record.id, record.version) for record in claimed])


def _hear_a_victim(victim: Child, acts: int) -> list[Operation]:
    """Hear of so many acts, then kill it; return what it did, and as open what it was doing."""
    said = [victim.line() for _ in range(2 * acts)]
    said += victim.kill()
    done: list[Operation] = []
    underway: list[Operation] = []
    for what, operations in cast("list[tuple[str, list[Operation]]]", said):
        if what == "does":
            underway = operations
        else:
            underway = []
            done += operations
    return done + underway
