"""Spools of the Go system open as they are. What lies in `fixtures/` was written by hand from its format."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retryspool.errors import CorruptRecordError
from retryspool.meta import ListOptions
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, Severity, State
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory

FIXTURES = Path(__file__).parent / "fixtures"
LEASE = timedelta(minutes=1)


def at(*args: int) -> datetime:
    return datetime(*args, tzinfo=UTC)  # type: ignore[arg-type,misc]  # a date and a time


EXPECTED = {
    "msg-123": MessageMetadata(
        id="msg-123",
        state=State.INCOMING,
        attempts=1,
        max_attempts=3,
        next_retry=at(2023, 1, 1, 12),
        created=at(2023, 1, 1, 10),
        updated=at(2023, 1, 1, 10, 30),
        last_error="temporary failure",
        size=1024,
        headers={"to": "user@example.com", "from": "sender@example.com"},
    ),
    "only-an-id": MessageMetadata(id="only-an-id"),
    "state-says-deferred": MessageMetadata(
        id="state-says-deferred",
        created=at(2024, 2, 29, 23, 59, 59, 500_000),
        updated=at(2024, 2, 29, 23, 59, 59, 500_000),
    ),
    "was-in-work": MessageMetadata(
        id="was-in-work",
        state=State.ACTIVE,
        next_retry=at(2024, 5, 6, 7, 8, 9, 123_456),
        created=at(2024, 5, 6, 7, 8, 9, 123_456),
        updated=at(2024, 5, 6, 7, 8, 10),
        size=17,
        priority=1,
        headers={"subject": "a <b> & c", "to": "zoë@example.com"},
        retry_policy_name="fixed",
    ),
    "nine-digits": MessageMetadata(
        id="nine-digits",
        state=State.DEFERRED,
        attempts=2,
        next_retry=at(2024, 5, 6, 7, 38, 9, 123_456),
        created=at(2024, 5, 6, 7, 8, 9, 987_654),
        updated=at(2024, 5, 6, 7, 8, 9, 100_000),
        last_error="451 4.7.1 try later",
        size=2048,
        headers={"to": "user@example.com"},
        retry_policy_name="exponential",
    ),
    "zones": MessageMetadata(
        id="zones",
        state=State.DEFERRED,
        attempts=1,
        next_retry=at(2024, 7, 1, 12, 0, 0, 123_456),
        created=at(2024, 7, 1),
        updated=at(2024, 7, 1),
        size=1,
        priority=9,
    ),
    "null-headers": MessageMetadata(
        id="null-headers",
        state=State.HOLD,
        created=at(2023, 11, 5, 1, 30),
        updated=at(2023, 11, 5, 1, 30),
        size=2**63 - 1,
        priority=100,
    ),
    "with-more": MessageMetadata(
        id="with-more",
        state=State.BOUNCE,
        attempts=10,
        next_retry=at(2024, 1, 1),
        created=at(2024, 1, 1),
        updated=at(2024, 1, 1),
        last_error="550 5.1.1 no such user — 😀",
        size=4096,
        headers={"to": "nobody@example.com"},
    ),
    "Done.2024": MessageMetadata(
        id="Done.2024",
        state=State.ARCHIVED,
        created=at(2038, 1, 19, 3, 14, 8),
        updated=at(9999, 12, 31, 23, 59, 59, 999_999),
        priority=0,
    ),
}
"""What each record of `fixtures/go` says."""

DAMAGED = sorted(path.stem for path in (FIXTURES / "damaged").iterdir())


@pytest.fixture
def go_base(base: Path) -> Path:
    shutil.copytree(FIXTURES / "go", base, copy_function=shutil.copyfile)  # without their age
    return base


@pytest.fixture
def go(go_base: Path) -> Iterator[FsMetaBackend]:
    with FsMetaFactory(go_base).create() as backend:
        yield backend


def content(base: Path, state: State, message_id: str) -> dict[str, object]:
    fields: dict[str, object] = json.loads((base / state.label / f"{message_id}.json").read_bytes())
    return fields


@pytest.mark.parametrize("message_id", EXPECTED)
def test_a_record_of_the_go_system_reads_as_it_was_meant(go: FsMetaBackend, message_id: str) -> None:
    assert EXPECTED[message_id] == go.get_meta(message_id)


@pytest.mark.parametrize("state", State)
def test_a_spool_of_the_go_system_lists_what_is_in_its_folders(go: FsMetaBackend, state: State) -> None:
    expected = {message_id for message_id, record in EXPECTED.items() if record.state is state}
    assert expected == set(go.list_messages(state).message_ids)
    assert expected == {record.id for record in go.iter_messages(state)}
    assert len(expected) == go.get_state_count(state)


def test_opening_and_reading_a_spool_changes_no_record(go_base: Path) -> None:
    before = {path: path.read_bytes() for path in go_base.rglob("*.json")}
    with FsMetaFactory(go_base).create() as backend:
        for state in State:
            backend.list_messages(state)
            list(backend.iter_messages(state))
        list(backend.check())
    assert before == {path: path.read_bytes() for path in go_base.rglob("*.json")}


def test_a_temporary_file_of_the_go_system_is_no_message_and_not_removed_while_it_may_be_in_use(
    go: FsMetaBackend, go_base: Path
) -> None:
    go.list_messages(State.INCOMING)
    assert (go_base / "incoming" / ".tmp.83019264").exists()
    assert [] == [finding for finding in go.check() if ".tmp." in finding.subject]


def test_a_message_that_the_go_system_left_active_is_claimed_at_once(go: FsMetaBackend) -> None:
    first = go.claim([State.INCOMING], limit=1, lease=LEASE, owner="w")[0]
    assert ("was-in-work", State.ACTIVE, 1, "w") == (first.id, first.state, first.deliveries, first.lease_owner)


def test_a_claim_leaves_the_file_of_a_record_as_it_is(go: FsMetaBackend, go_base: Path) -> None:
    before = (go_base / "incoming" / "msg-123.json").read_bytes()
    assert "msg-123" in {record.id for record in go.claim([State.INCOMING], limit=10, lease=LEASE, owner="w")}
    assert before == (go_base / "active" / "msg-123.json").read_bytes()


@pytest.mark.parametrize("message_id", EXPECTED)
def test_a_rewrite_keeps_the_text_of_times_that_stay_the_same(
    go: FsMetaBackend, go_base: Path, message_id: str
) -> None:
    state = EXPECTED[message_id].state
    before = content(go_base, state, message_id)
    go.update_meta(message_id, replace(go.get_meta(message_id), attempts=7))

    after = content(go_base, state, message_id)
    for name in ("Created", "NextRetry"):
        assert before.get(name, "0001-01-01T00:00:00Z") == after[name]
    assert before.get("Updated") != after["Updated"]
    assert 7 == after["Attempts"]


def test_a_rewrite_keeps_fields_that_nobody_knows(go: FsMetaBackend, go_base: Path) -> None:
    before = content(go_base, State.BOUNCE, "with-more")
    go.move_to_state("with-more", State.BOUNCE, State.INCOMING)
    go.claim([State.INCOMING], limit=10, lease=LEASE, owner="w")
    claimed = go.get_meta("with-more")
    go.update_meta(
        "with-more", replace(claimed, state=State.DEFERRED, headers={"new": "1"}), if_version=claimed.version
    )

    after = content(go_base, State.DEFERRED, "with-more")
    for name in ("Tenant", "Trace", "Empty"):
        assert before[name] == after[name]
    assert {"new": "1"} == after["Headers"]


@pytest.mark.parametrize("message_id", EXPECTED)
def test_a_record_of_the_go_system_can_be_written_and_means_the_same_afterwards(
    go: FsMetaBackend, go_base: Path, message_id: str
) -> None:
    expected = EXPECTED[message_id]
    stored = go.update_meta(message_id, go.get_meta(message_id), if_version=0)

    assert 1 == stored.version
    with FsMetaFactory(go_base).create() as another:
        assert stored == another.get_meta(message_id)
        assert replace(expected, version=1, updated=stored.updated) == another.get_meta(message_id)


def test_what_we_write_has_the_go_systems_names_and_kinds(backend: FsMetaBackend, base: Path) -> None:
    backend.store_meta("m", MessageMetadata("m", headers={"to": "<a&b>"}, created=at(2024, 1, 1)))
    fields = content(base, State.INCOMING, "m")

    assert {
        "ID": "m",
        "State": 0,
        "Attempts": 0,
        "MaxAttempts": 10,
        "NextRetry": "0001-01-01T00:00:00Z",
        "Created": "2024-01-01T00:00:00Z",
        "LastError": "",
        "Size": 0,
        "Priority": 5,
        "Headers": {"to": "<a&b>"},
        "RetryPolicyName": "",
    }.items() <= fields.items()


@pytest.mark.parametrize("message_id", DAMAGED)
def test_a_damaged_record_is_an_error_and_then_a_finding_and_never_lost(base: Path, message_id: str) -> None:
    damaged = (FIXTURES / "damaged" / f"{message_id}.json").read_bytes()
    (base / "incoming").mkdir(parents=True)
    (base / "incoming" / f"{message_id}.json").write_bytes(damaged)
    with FsMetaFactory(base).create() as backend:
        backend.store_meta("sound", MessageMetadata("sound"))

        assert ("sound",) == backend.list_messages(State.INCOMING).message_ids
        assert ["sound"] == [record.id for record in backend.iter_messages(State.INCOMING)]
        assert ["sound"] == [record.id for record in backend.claim([State.INCOMING], limit=9, lease=LEASE, owner="w")]

        findings = [finding for finding in backend.check() if finding.subject.startswith(f"corrupt/{message_id}.")]
        assert 1 == len(findings)
        assert findings[0].severity in {Severity.ERROR, Severity.WARNING}
    kept = [path.read_bytes() for path in (base / "corrupt").iterdir()]
    assert [damaged] == kept


@pytest.mark.parametrize("message_id", sorted(set(DAMAGED) - {"empty", "zeros"}))
def test_a_damaged_record_is_never_not_found(base: Path, message_id: str) -> None:
    (base / "hold").mkdir(parents=True)
    shutil.copy(FIXTURES / "damaged" / f"{message_id}.json", base / "hold")
    with FsMetaFactory(base).create() as backend:
        for _ in range(2):  # in its place, and set aside
            with pytest.raises(CorruptRecordError):
                backend.get_meta(message_id)
            with pytest.raises(CorruptRecordError):
                backend.move_to_state(message_id, State.HOLD, State.INCOMING)
            backend.list_messages(State.HOLD)


def test_of_keys_that_stand_twice_the_last_counts(base: Path) -> None:
    (base / "incoming").mkdir(parents=True)
    (base / "incoming" / "m.json").write_text('{"ID":"x","ID":"m","Attempts":1,"Attempts":2}')
    with FsMetaFactory(base).create() as backend:
        assert 2 == backend.get_meta("m").attempts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0001-01-01T00:00:00Z", ZERO_TIME),
        ("0001-01-01T00:00:00+14:00", ZERO_TIME),
        ("9999-12-31T23:59:59.999999999-12:00", NEVER),
        ("2024-01-01T00:00:00.000000999Z", at(2024, 1, 1)),
        ("2024-01-01T00:00:00-00:00", at(2024, 1, 1)),
    ],
)
def test_times_at_the_edges_read_as_the_nearest_that_there_is(base: Path, text: str, expected: datetime) -> None:
    (base / "incoming").mkdir(parents=True)
    (base / "incoming" / "m.json").write_text(json.dumps({"ID": "m", "NextRetry": text}))
    with FsMetaFactory(base).create() as backend:
        stored = backend.get_meta("m")
        assert expected == stored.next_retry
        backend.update_meta("m", stored)
    assert text == content(base, State.INCOMING, "m")["NextRetry"]


@pytest.mark.parametrize(
    "extra",
    [
        '"LastError": "a\\u0000b"',
        '"LastError": "a\\ud800b"',
        '"Headers": {"k\\u0000": "v\\udfff", "": "x"}',
        '"Headers": {"": "v"}',
        '"RetryPolicyName": "\\u0000"',
        '"Route": "\\ud800"',
    ],
)
def test_text_that_not_every_backend_could_store_keeps_no_message_from_being_settled(base: Path, extra: str) -> None:
    (base / "incoming").mkdir(parents=True)
    (base / "incoming" / "m.json").write_text(f'{{"ID": "m", {extra}}}')
    with FsMetaFactory(base).create() as backend:
        claimed = backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w")[0]
        settled = backend.update_meta("m", replace(claimed, state=State.DEFERRED), if_version=claimed.version)
        assert settled == backend.get_meta("m")


def test_a_message_that_lies_in_two_folders_is_one_the_newer(go_base: Path) -> None:
    """The Go system's move, cut off: the new file is written, the old one not yet removed."""
    older = {"ID": "twice", "State": 0, "Updated": "2024-01-01T00:00:00Z"}
    newer = {"ID": "twice", "State": 2, "Updated": "2024-01-01T00:00:01Z", "Attempts": 1}
    (go_base / "incoming" / "twice.json").write_text(json.dumps(older))
    (go_base / "deferred" / "twice.json").write_text(json.dumps(newer))
    with FsMetaFactory(go_base).create() as backend:
        assert "twice" not in backend.list_messages(State.INCOMING).message_ids
        assert "twice" in backend.list_messages(State.DEFERRED).message_ids
        assert (State.DEFERRED, 1) == (backend.get_meta("twice").state, backend.get_meta("twice").attempts)
        assert ["twice"] == [record.id for s in State for record in backend.iter_messages(s) if record.id == "twice"]
        backend.delete_meta("twice")
        assert len(EXPECTED) == sum(backend.list_messages(s, ListOptions(limit=0)).total for s in State)
    assert older == json.loads((go_base / "corrupt" / "twice.double").read_bytes())
