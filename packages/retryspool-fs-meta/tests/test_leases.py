"""The lease table: what becomes of leases when it, or the record under them, is damaged or rewritten."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retryspool.errors import StateConflictError
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory
from retryspool_fs_meta.index import Index
from retryspool_fs_meta.leases import Lease, LeaseTable

LEASE = timedelta(hours=1)
LINE = 512


def table_of(base: Path) -> Path:
    (path,) = (base / ".locks").glob("leases.*")
    return path


def claim(backend: FsMetaBackend) -> MessageMetadata:
    return backend.claim([State.INCOMING], limit=1, lease=LEASE, owner="w")[0]


def lease_of(message_id: str, **changes: object) -> Lease:
    moment = datetime(2024, 1, 1, 12, 30, 15, 999_999, tzinfo=UTC)
    lease = Lease(message_id, "01234567", 7, 3, "owner", moment, moment, State.INCOMING)
    return replace(lease, **changes)  # type: ignore[arg-type]  # fields of a lease


def test_the_longest_lease_that_there_is_fits_its_line(tmp_path: Path) -> None:
    table = LeaseTable(str(tmp_path), stripes=4)
    moment = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    longest = Lease("x" * 200, "ffffffff", 2**63, 2**63, "o" * 64, moment, moment, State.ARCHIVED)
    table.put(longest, 2)
    neighbour = lease_of("neighbour")
    table.put(neighbour, 3)
    assert longest == table.find("x" * 200, 2)
    assert neighbour == table.find("neighbour", 3)
    assert 4 * LINE == (table_size := next(tmp_path.glob("leases.*")).stat().st_size), table_size
    table.close()


def test_the_first_lines_have_their_place_on_the_disk_so_that_a_full_one_can_be_worked_empty(tmp_path: Path) -> None:
    table = LeaseTable(str(tmp_path), stripes=1024)

    assert next(tmp_path.glob("leases.*")).stat().st_blocks * 512 >= 1024 * LINE
    table.close()


def test_leases_of_one_stripe_stand_behind_each_other_and_leave_their_place_to_others(tmp_path: Path) -> None:
    table = LeaseTable(str(tmp_path), stripes=4)
    ids = [f"m{number}" for number in range(50)]
    for message_id in ids:
        table.put(lease_of(message_id), 1)
    for message_id in ids:
        assert lease_of(message_id) == table.find(message_id, 1)
        assert None is table.find(message_id, 2)
    size = next(tmp_path.glob("leases.*")).stat().st_size
    for round_ in range(5):
        random.Random(round_).shuffle(ids)
        for message_id in ids[:25]:
            table.clear(message_id, 1)
            assert None is table.find(message_id, 1)
        for message_id in ids[:25]:
            table.put(lease_of(message_id, version=round_), 1)
        assert all(table.find(message_id, 1) for message_id in ids)
    assert size == next(tmp_path.glob("leases.*")).stat().st_size
    table.close()


def test_an_id_that_is_the_beginning_of_another_has_no_part_in_its_lease(tmp_path: Path) -> None:
    table = LeaseTable(str(tmp_path), stripes=1)
    table.put(lease_of("ab"), 0)
    assert None is table.find("a", 0)
    table.clear("a", 0)
    table.put(lease_of("a", version=9), 0)
    assert (7, 9) == ((ab := table.find("ab", 0)) and ab.version, (a := table.find("a", 0)) and a.version)
    table.close()


def cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def half_a_line(raw: bytes) -> bytes:
    start = max(0, raw.index(b'{"ID":"m"') - 9)
    return raw[: start + LINE // 2] + b"\0" * (LINE // 2) + raw[start + LINE :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": cut,
    "zeros": lambda raw: b"\0" * len(raw),
    "half a line": half_a_line,
    "a wrong checksum": lambda raw: raw.replace(b'"Version":', b'"Version":9'),
    "other than JSON": lambda raw: raw.replace(b'{"ID":"m"', b'{"ID":"m",'),
    "random": lambda raw: random.Random(1).randbytes(len(raw)),
    "spaces": lambda raw: b" " * len(raw),
    "dashes": lambda raw: b"-" * len(raw),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_table_ends_leases_and_nothing_else(backend: FsMetaBackend, base: Path, damage: str) -> None:
    stored = backend.store_meta("m", MessageMetadata("m"))
    claimed = claim(backend)
    assert claimed == backend.get_meta("m")

    path = table_of(base)
    with path.open("r+b") as file:
        raw = DAMAGES[damage](file.read())
        file.seek(0)
        file.write(raw)
        file.truncate()

    with FsMetaFactory(base).create() as another:
        assert stored == another.get_meta("m")
        assert ("m",) == another.list_messages(State.INCOMING).message_ids
        again = claim(another)
        assert again == another.get_meta("m")
        another.delete_meta("m", if_version=again.version)


def test_flipped_bits_of_a_lease_end_it_or_change_nothing(backend: FsMetaBackend, base: Path) -> None:
    stored = backend.store_meta("m", MessageMetadata("m"))
    claimed = claim(backend)
    path = table_of(base)
    whole = path.read_bytes()
    start = whole.index(b'{"ID":"m"') - 9
    for bit in range(0, 8 * LINE, 7):
        raw = bytearray(whole)
        raw[start + bit // 8] ^= 1 << bit % 8
        with path.open("r+b") as file:
            file.write(raw)
        found = backend.get_meta("m")
        assert found in (stored, claimed), bit


def test_a_lease_is_void_when_the_go_system_rewrites_the_record(backend: FsMetaBackend, base: Path) -> None:
    backend.store_meta("m", MessageMetadata("m"))
    claimed = claim(backend)
    path = base / "active" / "m.json"
    fields = json.loads(path.read_bytes())
    go = {name: fields[name] for name in ("ID", "Attempts", "MaxAttempts", "NextRetry", "Created", "Headers")}
    temporary = base / "active" / ".tmp.123"
    temporary.write_text(json.dumps(go | {"State": 2, "Attempts": 1}))
    temporary.rename(base / "deferred" / "m.json")
    path.unlink()

    found = backend.get_meta("m")
    assert (State.DEFERRED, 1, "", 0) == (found.state, found.attempts, found.lease_owner, found.version)
    with pytest.raises(StateConflictError):
        backend.delete_meta("m", if_version=claimed.version)


def test_a_message_of_the_go_system_is_never_seen_active_without_the_lease_it_is_claimed_under(
    backend: FsMetaBackend, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that comes between a reader's look for a lease and its look for the file."""
    (base / "incoming" / "m.json").write_text('{"ID": "m", "State": 0}')
    real = backend._files._find

    def find(message_id: str, places: Iterable[State]) -> object:
        monkeypatch.undo()
        claim(backend)
        return real(message_id, places)

    monkeypatch.setattr(backend._files, "_find", find)
    assert "w" == backend.get_meta("m").lease_owner


def test_a_lease_of_an_earlier_message_of_the_same_id_is_not_the_new_ones(backend: FsMetaBackend, base: Path) -> None:
    backend.store_meta("m", MessageMetadata("m"))
    claim(backend)
    (base / "active" / "m.json").unlink()  # as a process does that is killed before it clears the lease
    stored = backend.store_meta("m", MessageMetadata("m"))
    assert stored == backend.get_meta("m")


def test_the_table_grows_with_the_leases_at_one_time_and_not_with_those_that_ever_were(base: Path) -> None:
    with FsMetaFactory(base, sync="performance").create() as backend:
        sizes = set()
        for round_ in range(4):
            for number in range(100):
                backend.store_meta(f"m{number}", MessageMetadata(f"m{number}"))
            for record in backend.claim([State.INCOMING], limit=100, lease=LEASE, owner=f"w{round_}"):
                backend.delete_meta(record.id, if_version=record.version)
            sizes.add(table_of(base).stat().st_size)
    assert 1 == len(sizes)


def test_a_claim_returns_no_message_twice_however_short_its_lease(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_due = Index.take_due
    monkeypatch.setattr(Index, "take_due", lambda *given, **named: take_due(*given, **named) * 2)
    with FsMetaFactory(base).create() as backend:
        for name in ("a", "b"):
            backend.store_meta(name, MessageMetadata(name))

        claimed = backend.claim([State.INCOMING], limit=9, lease=timedelta(microseconds=1), owner="me")

    assert ["a", "b"] == sorted(record.id for record in claimed)
