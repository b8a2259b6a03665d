"""What other processes change is found: by hints, and without them by a survey."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from retryspool.errors import BackendClosedError, BackendError
from retryspool.model import NEVER, MessageMetadata, State
from retryspool_fs_meta import FsMetaBackend, FsMetaFactory, hints, keeper
from retryspool_fs_meta.hints import Hints

LEASE = timedelta(minutes=1)


def survey(backend: FsMetaBackend) -> None:
    """What the keeper does once a minute."""
    if backend._surveyor.has_changed():
        backend._surveyor.survey(lambda: False)


def claimed_ids(backend: FsMetaBackend) -> list[str]:
    return [each.id for each in backend.claim([State.INCOMING, State.DEFERRED], limit=9, lease=LEASE, owner="w")]


def failing_for(message_id: str) -> Callable[..., int]:
    """Return an `os.open` for a record that this user may not read: root, who may run this, may."""
    real = os.open

    def failing(path: str, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(f"/{message_id}.json"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *args, **kwargs)

    return failing


def write_as_go_does(base: Path, state: State, message_id: str, **fields: object) -> None:
    temporary = base / state.label / ".tmp.1"
    temporary.write_text(json.dumps({"ID": message_id, "State": state.value, **fields}))
    temporary.rename(base / state.label / f"{message_id}.json")


def test_a_survey_finds_what_comes_moves_and_goes_without_a_hint(backend: FsMetaBackend, base: Path) -> None:
    backend.store_meta("goes", MessageMetadata("goes"))
    backend.store_meta("moves", MessageMetadata("moves"))
    backend.list_messages(State.INCOMING)

    write_as_go_does(base, State.INCOMING, "comes")
    (base / "incoming" / "goes.json").unlink()
    (base / "incoming" / "moves.json").rename(base / "hold" / "moves.json")
    write_as_go_does(base, State.HOLD, "moves")
    survey(backend)

    assert ("comes",) == backend.list_messages(State.INCOMING).message_ids
    assert ("moves",) == backend.list_messages(State.HOLD).message_ids


def test_a_survey_finds_a_record_that_was_rewritten_where_it_lies(backend: FsMetaBackend, base: Path) -> None:
    backend.store_meta("m", MessageMetadata("m", State.DEFERRED, next_retry=NEVER))
    assert [] == claimed_ids(backend)

    write_as_go_does(base, State.DEFERRED, "m", NextRetry="2024-01-01T00:00:00Z")
    survey(backend)

    assert ["m"] == claimed_ids(backend)


def test_a_survey_goes_on_though_one_record_can_not_be_read_and_reads_it_later(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FsMetaFactory(base).create() as backend:
        for name in ("a", "b", "c"):
            backend.store_meta(name, MessageMetadata(name))
    with FsMetaFactory(base).create() as backend:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", failing_for("b"))
            assert ("a", "c") == backend.list_messages(State.INCOMING).message_ids
            assert ["b"] == [finding.message_id for finding in backend.check() if finding.message_id]
            assert ["a", "c"] == claimed_ids(backend)
        survey(backend)
        assert ["b"] == claimed_ids(backend)


def test_an_index_that_could_not_be_filled_is_an_error_and_not_an_empty_spool(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FsMetaFactory(base).create() as backend:
        backend.store_meta("m", MessageMetadata("m"))
    monkeypatch.setattr(keeper, "_SURVEY_AGAIN_S", 0.01)
    with FsMetaFactory(base).create() as backend:
        with monkeypatch.context() as patch:
            patch.setattr(backend._surveyor, "survey", _raise_emfile)
            with pytest.raises(BackendError):
                backend.list_messages(State.INCOMING)
        eventually(lambda: backend._keeper._failure is None)
        assert ("m",) == backend.list_messages(State.INCOMING).message_ids


def _raise_emfile(_: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def eventually(is_so: Callable[[], bool]) -> None:
    import threading  # noqa: PLC0415

    for _ in range(1000):
        if is_so():
            return
        threading.Event().wait(0.01)
    raise AssertionError


def test_what_a_hint_names_and_can_not_be_read_is_read_the_next_time(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FsMetaFactory(base).create() as ours, FsMetaFactory(base).create() as other:
        assert [] == claimed_ids(ours)
        other.store_meta("m", MessageMetadata("m"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", failing_for("m"))
            assert [] == claimed_ids(ours)
        assert ["m"] == claimed_ids(ours)


@pytest.mark.parametrize("foreign", ["../../secret", "../secret", "a/../../secret", "a\0b", "x" * 300, "ä", ""])
def test_a_hint_leads_nowhere_but_to_a_record(base: Path, foreign: str) -> None:
    outside = base.parent / "secret.json"
    outside.write_text("not a record")
    with FsMetaFactory(base).create() as backend:
        assert [] == claimed_ids(backend)
        with (base / ".locks" / "hints").open("a") as file:
            file.write(f"abc {foreign}\nabc m\n")
        write_as_go_does(base, State.INCOMING, "m")
        assert ["m"] == claimed_ids(backend)
    assert outside.exists()


@pytest.mark.parametrize("garbage", [b"abc half-a-li", b"\0" * 700_000, b"x" * 700_000])
def test_garbage_in_the_hints_keeps_nobody_busy_and_hides_no_later_hint(base: Path, garbage: bytes) -> None:
    with FsMetaFactory(base).create() as ours, FsMetaFactory(base).create() as other:
        claimed_ids(ours)
        with (base / ".locks" / "hints").open("ab") as file:
            file.write(garbage)
        claimed_ids(ours)
        assert not ours.wait_for_change(0.12)
        other.store_meta("m1", MessageMetadata("m1"))  # whose hint is spoilt by what stands before it
        assert ours.wait_for_change(5)
        other.store_meta("m2", MessageMetadata("m2"))
        assert "m2" in claimed_ids(ours)


def test_hints_don_t_pile_up_by_processes_that_give_few(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "_MAX_BYTES", 1000)
    for number in range(40):
        with FsMetaFactory(base, sync="performance").create() as backend:
            backend.store_meta(f"m{number}", MessageMetadata(f"m{number}"))
    assert 1100 > (base / ".locks" / "hints").stat().st_size


def test_who_missed_hints_because_they_began_anew_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "hints")
    reader, writer = Hints(path, "aaa"), Hints(path, "bbb")
    writer.tell(["m1"])
    assert ({"m1"}, False) == reader.read()
    writer.tell(["m2"])
    writer._begin_anew_if(lambda _: True)
    writer.tell(["m3", "m4"])
    assert reader.news()
    assert ({"m3", "m4"}, True) == reader.read()
    assert (set(), False) == reader.read()
    reader.close()
    writer.close()


def test_a_message_whose_claim_was_cut_off_is_put_in_place_by_the_next_who_meets_it(base: Path) -> None:
    with FsMetaFactory(base).create() as dying, FsMetaFactory(base).create() as ours:
        ours.store_meta("m", MessageMetadata("m"))
        ours.list_messages(State.INCOMING)
        assert ["m"] == claimed_ids(dying)
        (base / "active" / "m.json").rename(base / "incoming" / "m.json")  # as if it had been killed before its rename

        assert [] == claimed_ids(ours)
        assert ["m"] == [record.id for record in ours.iter_messages(State.ACTIVE)]
        assert [] == list(ours.iter_messages(State.INCOMING))


def test_a_go_record_that_was_claimed_from_bounce_goes_back_there_after_a_power_cut(base: Path) -> None:
    """Not to the handlers of new mail: it would be delivered after it has bounced."""
    (base / "active").mkdir(parents=True)
    (base / "active" / "m.json").write_text('{"ID": "m", "State": 4}')
    with FsMetaFactory(base).create() as backend:
        assert (State.ACTIVE, State.BOUNCE) == (backend.get_meta("m").state, backend.get_meta("m").claimed_from)
        assert [] == claimed_ids(backend)
        assert ["m"] == [each.id for each in backend.claim([State.BOUNCE], limit=1, lease=LEASE, owner="w")]


def test_what_was_read_before_this_process_changed_it_does_not_undo_what_it_knows(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FsMetaFactory(base).create() as ours, FsMetaFactory(base).create() as other:
        other.store_meta("m", MessageMetadata("m", State.DEFERRED, next_retry=NEVER))
        assert [] == claimed_ids(ours)
        real = ours._files.read
        other.update_meta("m", other.get_meta("m"))  # of which `ours` is told

        def slow(*args: Any) -> object:
            stored = real(*args)
            monkeypatch.setattr(ours._files, "read", real)
            ours.move_to_state("m", State.DEFERRED, State.INCOMING)
            return stored

        monkeypatch.setattr(ours._files, "read", slow)
        assert 0 == len(ours.claim([State.BOUNCE], limit=1, lease=LEASE, owner="w"))
        assert 1 == ours.get_state_count(State.INCOMING)


def test_closing_wakes_who_waits(base: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    backend = FsMetaFactory(base).create()
    claimed_ids(backend)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(backend.wait_for_change, 50) for _ in range(4)]
        backend.close()
        for each in waiting:
            with pytest.raises(BackendClosedError):
                each.result(timeout=5)


def test_a_survey_is_repeated_when_a_folder_changed_as_it_began(base: Path) -> None:
    """What changes within the same tick of the file system's clock leaves the folder's time as it is."""
    with FsMetaFactory(base).create() as backend:
        write_as_go_does(base, State.INCOMING, "m")
        backend._surveyor.survey(lambda: False)
        assert backend._surveyor.has_changed()
        past = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
        for state in State:
            os.utime(base / state.label, (past, past))
        backend._surveyor.survey(lambda: False)
        assert not backend._surveyor.has_changed()


def test_to_ask_what_is_due_takes_no_change_from_those_who_wait(backend: FsMetaBackend) -> None:
    backend.list_messages(State.INCOMING)
    assert backend.wait_for_change(10)  # the index was filled
    assert [] == claimed_ids(backend)
    backend.store_meta("m", MessageMetadata("m"))

    backend.get_oldest_due(State.INCOMING)

    assert backend.wait_for_change(0.5)
