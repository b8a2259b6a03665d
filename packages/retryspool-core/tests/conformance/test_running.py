"""How the suite runs where it's installed, and what it says: each in a pytest of its own, away from this repository."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

PLAIN = ("-c", "/dev/null", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-q")
HEAD = """
    import pytest
    from retryspool.conformance import DataBackendSuite, MetaBackendSuite, clause, deviation
    from retryspool.conformance.meta_suite import MetaSuite
    from retryspool.memory import MemoryMeta, MemoryMetaFactory
"""
ONE = """
    class TestOne(MetaSuite):
        def factory(self, namespace):
            return MemoryMetaFactory("one").in_namespace(namespace)
"""


def run(folder: Path, *arguments: str, expect: int = 0, **files: str) -> str:
    """Run pytest in a folder and return what it prints."""
    for name, content in files.items():
        (folder / f"{name}.py").write_text(dedent(content))
    command = [sys.executable, "-m", "pytest", *PLAIN, "--rootdir", str(folder), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=55, check=False)
    assert expect == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def reported(folder: Path, *arguments: str, expect: int = 0, **files: str) -> dict[str, Any]:
    """Run pytest in a folder and return the report of the one suite in it."""
    run(folder, "--retryspool-report=report.json", *arguments, expect=expect, **files)
    (suite,) = json.loads((folder / "report.json").read_text())["suites"]
    return suite


def results(suite: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {test["test"]: (test["result"], test["reason"]) for test in suite["tests"]}


def test_a_store_is_tried_by_its_url_without_a_line_to_write(tmp_path: Path) -> None:
    text = run(
        *(tmp_path, "--pyargs", "retryspool.conformance", "--retryspool-meta=memory:given", "-k", "move"),
        *("--retryspool-report=report.md", "--retryspool-report=report.json", "--retryspool-seed=7"),
    )

    assert "clauses kept" in text
    assert "profile quick, seed 7" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert ("1.1", "quick", 7) == (report["contract"], report["profile"], report["seed"])
    assert "passed" == report["suites"][0]["clauses"]["META-14"]
    assert "| META-14 | A move is compare and swap |" in (tmp_path / "report.md").read_text()


def test_a_class_of_a_few_lines_is_enough(tmp_path: Path) -> None:
    suite = reported(tmp_path, "-k", "move", test_mine=HEAD + ONE.replace("MetaSuite", "MetaBackendSuite"))

    assert "test_mine.TestOne" == suite["name"]
    assert "passed" == suite["clauses"]["META-14"]


def test_levels_choose_the_tests(tmp_path: Path) -> None:
    source = HEAD + ONE.replace("MetaSuite", "MetaBackendSuite")
    suite = reported(tmp_path, "-k", "move", "--retryspool-level=concurrent", test_mine=source)

    assert {"concurrent"} == {test["level"] for test in suite["tests"]}
    assert "core,concurrent,durable,network" in run(tmp_path, "--retryspool-level=hard", expect=4)


def test_clauses_choose_the_tests(tmp_path: Path) -> None:
    source = HEAD + ONE.replace("MetaSuite", "MetaBackendSuite")
    suite = reported(tmp_path, "--retryspool-clause=META-16,META-17", test_mine=source)

    assert {"META-16", "META-17"} <= set(suite["clauses"])
    assert all({"META-16", "META-17"} & set(test["clauses"]) for test in suite["tests"])
    assert "no clause 'META-0'" in run(tmp_path, "--retryspool-clause=META-0", expect=4)


def test_a_run_without_the_suite_imports_nothing_of_it(tmp_path: Path) -> None:
    source = """
        import sys

        def test_nothing():
            assert [] == [name for name in sys.modules if name.startswith("retryspool")]
            assert "hypothesis" not in sys.modules or "pytest" in sys.modules
    """
    run(tmp_path, test_plain=source)


def test_an_overridden_test_needs_a_reason(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
    class TestOne(MetaBackendSuite):
        def factory(self, namespace):
            return MemoryMetaFactory("one").in_namespace(namespace)

        test_a_second_move_from_the_same_state_conflicts = None
    """
    )
    suite = reported(tmp_path, "-k", "overridden", expect=1, test_mine=source)

    assert "failed" == results(suite)["test_no_test_is_overridden_without_a_reason"][0]


def test_a_deviation_is_reported_with_its_reason_and_issue(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
    class TestOne(MetaBackendSuite):
        def factory(self, namespace):
            return MemoryMetaFactory("one").in_namespace(namespace)

        @deviation(reason="it can't", issue="https://example.com/7")
        @clause("META-14")
        def test_a_second_move_from_the_same_state_conflicts(self):
            raise AssertionError
    """
    )
    suite = reported(tmp_path, "-k", "overridden or second_move", test_mine=source)

    found = results(suite)
    assert ("deviates", "it can't (https://example.com/7)") == found["test_a_second_move_from_the_same_state_conflicts"]
    assert "passed" == found["test_no_test_is_overridden_without_a_reason"][0]


def test_if_the_fixture_does_not_work_nothing_else_counts(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
    class TestOne(MetaSuite):
        def factory(self, namespace):
            return MemoryMetaFactory("the same for all")

        @clause("META-1")
        def test_something(self, meta):
            pass
    """
    )
    suite = reported(tmp_path, expect=1, test_mine=source)

    found = results(suite)
    assert "failed" == found["test_the_fixture_makes_stores_that_are_empty_and_apart"][0]
    assert "skipped" == found["test_something"][0]
    assert found["test_something"][1].startswith("not run: the fixture doesn't work: ")


def test_a_clean_up_that_fails_fails_no_test_and_is_told(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
    class Factory(MemoryMetaFactory):
        def destroy(self):
            raise OSError("no way")

    class TestOne(MetaSuite):
        def factory(self, namespace):
            return Factory(namespace)

        @clause("META-1")
        def test_something(self, meta):
            pass
    """
    )
    suite = reported(tmp_path, test_mine=source)

    assert "passed" == results(suite)["test_something"][0]
    assert any("no way" in trouble for trouble in suite["troubles"])


def test_a_clause_that_is_newer_than_the_backend_only_warns(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
    from retryspool.meta import MetaCapabilities

    class Old(MemoryMeta):
        capabilities = MetaCapabilities(processes=False, durable=False, server_clock=False, contract="1.0")

    class Factory(MemoryMetaFactory):
        def create(self):
            return Old(super().create()._shared)

    class TestOne(MetaSuite):
        def factory(self, namespace):
            return Factory(namespace)

        @clause("META-60")
        def test_something_new(self, meta):
            assert False
    """
    )
    suite = reported(tmp_path, test_mine=source)

    assert ("warned", "META-60 is newer than the contract 1.0 that the backend declares") == results(suite)[
        "test_something_new"
    ]


def test_the_same_seed_makes_the_same_randomness(tmp_path: Path) -> None:
    source = (
        HEAD
        + ONE
        + """
        @clause("META-1")
        def test_seed(self, seed):
            print("seed", seed)
    """
    )
    first, again, other = (
        run(tmp_path, "-s", f"--retryspool-seed={seed}", "-k", "seed", test_mine=source).partition("seed ")[2][:12]
        for seed in (1, 1, 2)
    )

    assert first == again != other


@pytest.mark.parametrize("option", ["--retryspool-profile=slow", "--retryspool-level=core,hard"])
def test_an_option_that_is_none_is_refused(tmp_path: Path, option: str) -> None:
    source = HEAD + ONE.replace("MetaSuite", "MetaBackendSuite")

    run(tmp_path, option, expect=4, test_mine=source)
