"""What a folder of records says, as tests compare it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from retryspool.meta import Delete, MetaBackend
from retryspool.model import ZERO_TIME, MessageMetadata, Severity, State
from retryspool_fs_meta import FsMetaFactory, backend, claims

__all__ = ["Snapshot", "assert_nothing_is_stuck", "snapshot_of"]

Snapshot = dict[str, MessageMetadata]

_CLAIMABLE = (State.INCOMING, State.DEFERRED, State.BOUNCE)


def snapshot_of(base: Path) -> Snapshot:
    """Open the spool anew; return its records by id, without the times at which they were written.

    Each is looked at in every way that there is, and has to be the same in all.
    """
    with FsMetaFactory(base, sync="performance").create() as opened:
        found: Snapshot = {}
        first_look = {path.stem: opened.get_meta(path.stem) for state in State for path in _records_in(base, state)}
        for state in State:
            listed = list(opened.list_messages(state).message_ids)
            assert sorted(listed) == sorted(record.id for record in opened.iter_messages(state))
            for message_id in listed:
                assert message_id not in found, "it is in two states"
                found[message_id] = _timeless(opened.get_meta(message_id))
                assert state is found[message_id].state
                assert found[message_id] == _timeless(first_look[message_id]), "it was another before the first listing"
        assert found.keys() == first_look.keys()
        assert [] == [finding for finding in opened.check() if finding.severity is not Severity.WARNING]
        assert [] == list((base / "corrupt").iterdir())
    names = [path.name for state in State for path in (base / state.label).iterdir()]
    assert sorted(f"{message_id}.json" for message_id in found) == sorted(names), "one file a record, and nothing else"
    return found


def _records_in(base: Path, state: State) -> Iterable[Path]:
    return (base / state.label).glob("[!.]*")


def _timeless(record: MessageMetadata) -> MessageMetadata:
    return replace(record, created=ZERO_TIME, updated=ZERO_TIME, lease_expires=ZERO_TIME)


def assert_nothing_is_stuck(base: Path, expected: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all leases are over, everything that isn't held or archived is claimed, once, and can be settled."""
    with monkeypatch.context() as patch:
        later = datetime.now().astimezone() + timedelta(days=1)
        for module in (backend, claims):
            patch.setattr(module, "utc_now", lambda: later.astimezone(tz=ZERO_TIME.tzinfo))
        with FsMetaFactory(base, sync="performance").create() as opened:
            taken = _claim_all(opened)
            assert sorted(_waiting(expected)) == sorted(each.id for each in taken)
            for each in taken:
                assert expected[each.id].deliveries + 1 == each.deliveries
            assert [None] * len(taken) == opened.apply([Delete(each.id, each.version) for each in taken])
            assert {State.HOLD, State.ARCHIVED} >= {state for state in State if opened.list_messages(state).total}


def _claim_all(opened: MetaBackend) -> list[MessageMetadata]:
    return opened.claim(_CLAIMABLE, limit=1000, lease=timedelta(days=2), owner="later")


def _waiting(expected: Snapshot) -> Iterable[str]:
    return (each.id for each in expected.values() if each.state not in {State.HOLD, State.ARCHIVED})
