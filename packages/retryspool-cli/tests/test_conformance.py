"""`retryspool conformance`: which backend, and what becomes of its result. The suite itself is the core's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Cli

ONE_CLAUSE = ("--level", "core", "--clause", "FACTORY-6")
"""As little of the suite as there is."""


def test_a_backend_that_keeps_the_clause_is_reported_and_nothing_is_left(process: Cli, tmp_path: Path) -> None:
    result = process("conformance", "fs", "--kind", "data", *ONE_CLAUSE, "--report", "r.json", "--report", "r.md")

    assert 0 == result.code, result.text + result.err
    assert ["r.json", "r.md"] == sorted(path.name for path in tmp_path.iterdir())
    assert "FACTORY-6" in (tmp_path / "r.md").read_text()
    assert "FACTORY-6" in json.dumps(json.loads((tmp_path / "r.json").read_text()))


def test_a_url_names_the_backend_and_nothing_is_left_there(process: Cli, tmp_path: Path) -> None:
    result = process("conformance", f"fs:{tmp_path}/x?sync=hybrid", "--kind", "meta", *ONE_CLAUSE, "--seed", "17")

    assert 0 == result.code, result.text + result.err
    assert "seed 17" in result.text
    assert [] == [path for path in (tmp_path / "x").rglob("*") if path.is_file()]


@pytest.mark.parametrize("named", ["zstd", "zstd:?level=19"])
def test_a_middleware_is_proved_too(named: str, process: Cli) -> None:
    result = process("conformance", named, "--level", "core", "--clause", "MIDDLEWARE-13,MIDDLEWARE-15")

    assert 0 == result.code, result.text + result.err
    assert "2 of 2 clauses kept" in result.text


def test_no_password_is_shown_of_what_is_not_found(cli: Cli) -> None:
    refused = cli("conformance", "nowhere://me:hunter2@host/x")

    assert 1 == refused.code
    assert "there is no middleware 'nowhere'" in refused.err
    assert "hunter2" not in refused.err


def test_projects_around_have_no_say(process: Cli, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text("raise SystemExit('imported')\n")

    result = process("conformance", "memory", "--kind", "data", *ONE_CLAUSE, env={"PYTEST_ADDOPTS": "--no-such-option"})

    assert 0 == result.code, result.text + result.err


@pytest.mark.redis
def test_a_name_alone_gets_a_throw_away_server(process: Cli) -> None:
    result = process("conformance", "redis", *ONE_CLAUSE)

    assert 0 == result.code, result.text + result.err
    assert "starting Redis\n" == result.err


@pytest.mark.parametrize("backend", ["fs", "fs:spool"])
def test_a_name_of_both_kinds_needs_to_be_told(backend: str, cli: Cli) -> None:
    result = cli("conformance", backend)

    assert 2 == result.code
    assert f"{backend} may be a metadata or a data backend: add --kind meta or --kind data" in result.err


def test_what_cannot_be_is_refused_before_anything_runs(cli: Cli) -> None:
    for arguments, code, wrong in (
        (("carbon",), 1, "there is no meta 'carbon'"),
        (("carbon:x", "--kind", "data"), 1, "there is no data 'carbon'"),
        (("fs:x?colour=red", "--kind", "data"), 2, "there is no setting 'colour'"),
        (("fs", "--kind", "data", "--profile", "slow"), 2, "'slow' is not one of"),
    ):
        result = cli("conformance", *arguments)
        assert (code, "") == (result.code, result.text)
        assert wrong in result.err


BROKEN = """
from retryspool.memory import MemoryDataFactory
from retryspool.plugins import hookimpl

class Broken(MemoryDataFactory):
    name = "broken"

    def in_namespace(self, namespace):
        return self

@hookimpl
def retryspool_data_factories():
    return [Broken]
"""


def test_a_backend_that_breaks_a_clause_exits_with_1(process: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken_plugin.py").write_text(BROKEN)
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[retryspool]\nbroken = broken_plugin\n")

    arguments = ("broken:", "--level", "core", "--clause", "FACTORY-2")
    result = process("conformance", *arguments, env={"PYTHONPATH": str(tmp_path)})

    assert 1 == result.code, result.text + result.err
    assert "broken: FACTORY-1, FACTORY-2" in result.text


@pytest.mark.parametrize("missing", ["pytest", "hypothesis"])
def test_a_suite_that_is_not_installed_is_an_error_that_says_what_to_install(
    missing: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retryspool_cli.commands.conformance.find_spec", lambda name: None if name == missing else name)

    result = cli("conformance", "memory", "--kind", "data")

    assert 1 == result.code
    assert f"the suite needs {missing}, which isn't installed: pip install 'retryspool-core[conformance]'" in result.err
