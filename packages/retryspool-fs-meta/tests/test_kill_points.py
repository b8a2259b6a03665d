"""A process is killed at each of its file operations in turn; a new one opens what it left."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_points import KillPoints
from meta_snapshots import Snapshot, assert_nothing_is_stuck, snapshot_of
from meta_works import WORKS, prepare

from retryspool_fs_meta import FsMetaFactory


@pytest.fixture(scope="module")
def kill_points() -> Iterator[KillPoints]:
    with KillPoints() as started:
        yield started


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    path = tmp_path / "prepared"
    with FsMetaFactory(path, sync="performance").create() as backend:
        prepare(backend)
    return path


def assert_old_or_new(before: Snapshot, found: Snapshot, after: Snapshot, where: object) -> None:
    for message_id in before | found | after:
        assert found.get(message_id) in (before.get(message_id), after.get(message_id)), where


@pytest.mark.parametrize("sync", ["standard", "performance"])  # hybrid: the same in the same order
@pytest.mark.parametrize("work", WORKS)
def test_a_kill_leaves_each_message_once_as_it_was_or_as_it_was_to_be(
    prepared: Path, kill_points: KillPoints, monkeypatch: pytest.MonkeyPatch, work: str, sync: str
) -> None:
    tmp_path = prepared.parent
    before = snapshot_of(prepared)
    whole = shutil.copytree(prepared, tmp_path / "whole")
    assert kill_points.run("meta_works:work", str(whole), sync, work, at=0) is None
    after = snapshot_of(whole)

    number = 0
    seen_before = seen_after = False
    for number in itertools.count(1):
        base = shutil.copytree(prepared, tmp_path / str(number))
        death = kill_points.run("meta_works:work", str(base), sync, work, at=number)
        found = snapshot_of(base)
        if death is None:
            assert after == found
            break
        assert_old_or_new(before, found, after, death)
        assert_nothing_is_stuck(base, found, monkeypatch)
        seen_before |= before == found
        seen_after |= after == found
    assert seen_before
    assert number > 3
    assert seen_after or "delet" in work or "apply" in work or work == "renew"  # what takes effect with its last call


@pytest.mark.parametrize("there", ["a new spool", "a spool"])
def test_a_kill_while_opening_or_closing_loses_nothing(
    tmp_path: Path,
    prepared: Path,
    kill_points: KillPoints,
    there: str,
) -> None:
    before = snapshot_of(prepared) if there == "a spool" else {}
    number = 0
    for number in itertools.count(1):
        base = tmp_path / str(number)
        if there == "a spool":
            shutil.copytree(prepared, base)
        death = kill_points.run("meta_works:open_and_store", str(base), "standard", at=number)
        found = snapshot_of(base)
        new = found.pop("new", None)
        assert before == found, death
        if death is None:
            assert new is not None
            break
    assert number > 20
