"""What a power cut may leave, laid out by hand, and opened."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from retryspool.errors import CorruptRecordError, MessageNotFoundError
from retryspool.meta import Delete, Update
from retryspool.model import ZERO_TIME, MessageMetadata, Severity, State, replace
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory, leases

LEASE = timedelta(hours=1)


@pytest.fixture
def before(base: Path) -> Iterator[FsMetaBackend]:
    """The spool before the cut: what happens while it's open may be lost where it isn't synced."""
    with FsMetaFactory(base).create() as backend:
        yield backend


@pytest.fixture
def after(base: Path, before: FsMetaBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[FsMetaFactory]:
    """What opens it after the cut: the system has started anew."""
    monkeypatch.setattr(leases, "boot_id", lambda: "another")
    yield FsMetaFactory(base)
    before.close()


def claim(backend: FsMetaBackend) -> MessageMetadata:
    return backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w")[0]


@pytest.mark.parametrize("renamed", [True, False], ids=["the rename reached the disk", "the rename did not"])
def test_a_claim_is_undone(base: Path, before: FsMetaBackend, after: FsMetaFactory, renamed: bool) -> None:  # noqa: FBT001
    stored = before.store_meta("m", MessageMetadata("m"))
    claim(before)
    if not renamed:
        (base / "active" / "m.json").rename(base / "incoming" / "m.json")
    with after.create() as backend:
        assert stored == backend.get_meta("m")
        assert ("m",) == backend.list_messages(State.INCOMING).message_ids
        assert 1 == claim(backend).deliveries


def test_a_message_of_which_an_older_record_comes_back_is_the_newer(
    base: Path, before: FsMetaBackend, after: FsMetaFactory
) -> None:
    """The claim's rename did not reach the disk, and that of the deferral did, which went to another folder."""
    before.store_meta("m", MessageMetadata("m"))
    old = (base / "incoming" / "m.json").read_bytes()
    deferred = before.update_meta("m", replace(claim(before), state=State.DEFERRED, attempts=1, lease_owner=""))
    (base / "incoming" / "m.json").write_bytes(old)
    with after.create() as backend:
        assert deferred == backend.get_meta("m")
        assert 0 == backend.get_state_count(State.INCOMING)
        assert 1 == backend.get_state_count(State.DEFERRED)
        backend.delete_meta("m")
        with pytest.raises(MessageNotFoundError):
            backend.get_meta("m")
        doubles = [finding for finding in backend.check() if finding.subject == "corrupt/m.double"]
        assert [Severity.WARNING] == [finding.severity for finding in doubles]


def test_a_message_that_was_deleted_and_stored_again_is_the_new_one_though_the_old_comes_back(
    base: Path, before: FsMetaBackend, after: FsMetaFactory
) -> None:
    before.store_meta("m", MessageMetadata("m", State.HOLD))
    before.move_to_state("m", State.HOLD, State.ARCHIVED)
    old = (base / "archived" / "m.json").read_bytes()
    before.delete_meta("m")
    new = before.store_meta("m", MessageMetadata("m", headers={"new": "1"}))
    (base / "archived" / "m.json").write_bytes(old)
    with after.create() as backend:
        assert new == backend.get_meta("m")
        assert 0 == backend.get_state_count(State.ARCHIVED)


@pytest.mark.parametrize("left", [b"", b"\0" * 600])
def test_a_name_without_content_is_no_message(base: Path, after: FsMetaFactory, left: bytes) -> None:
    (base / "incoming" / "m.json").write_bytes(left)
    with after.create() as backend:
        for _ in range(2):
            with pytest.raises(MessageNotFoundError):
                backend.get_meta("m")
        assert [Severity.WARNING] == [finding.severity for finding in backend.check()]
        assert 1 == backend.store_meta("m", MessageMetadata("m")).version


@pytest.mark.parametrize("half", [0.1, 0.5, 0.9])
def test_half_a_record_is_set_aside_and_never_served(
    base: Path, before: FsMetaBackend, after: FsMetaFactory, half: float
) -> None:
    before.store_meta("m", MessageMetadata("m", last_error="x" * 8000))
    raw = (base / "incoming" / "m.json").read_bytes()
    torn = raw[: int(len(raw) * half)]
    for left in (torn, torn.ljust(len(raw), b"\0"), b"\0" * 4096 + raw[4096:]):
        (base / "incoming" / "m.json").write_bytes(left)
        with after.create() as backend:
            with pytest.raises(CorruptRecordError):
                backend.get_meta("m")
            assert [] == backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w")
        kept = {path.read_bytes() for path in (base / "corrupt").iterdir()}
        assert left in kept


def test_leases_of_an_earlier_start_of_the_system_are_void_and_their_table_is_removed(
    base: Path, before: FsMetaBackend, after: FsMetaFactory
) -> None:
    before.store_meta("m", MessageMetadata("m"))
    claim(before)
    with after.create() as backend:
        assert ["leases.another"] == [path.name for path in (base / ".locks").glob("leases.*")]
        assert (State.INCOMING, 0, ZERO_TIME) == (
            (found := backend.get_meta("m")).state,
            found.deliveries,
            found.lease_expires,
        )


def test_a_settled_message_stays_settled(base: Path, before: FsMetaBackend, after: FsMetaFactory) -> None:
    for name in ("a", "b"):
        before.store_meta(name, MessageMetadata(name))
    a, b = claim(before), claim(before)
    before.apply([Delete("a", a.version), Update(replace(b, state=State.ARCHIVED), b.version)])
    with after.create() as backend:
        assert [0, 0, 0, 0, 0, 1] == [backend.get_state_count(state) for state in State]
        assert [] == list((base / "corrupt").iterdir())
