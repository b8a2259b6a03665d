"""What the suite does in a pytest run; `pytest_retryspool` calls it once there's a test of the suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retryspool.conformance.contract import CLAUSES, is_binding
from retryspool.conformance.marks import DEVIATION_MARK, TEST_MARK, Level, TestMark
from retryspool.conformance.report import Outcome, Report

__all__ = ["PROPERTY", "add_to_report", "describe", "finish", "new_report", "select"]

PROPERTY = "retryspool_test"
_ABOUT = "retryspool_about"
_TROUBLE = "retryspool_trouble"


def _levels(config: pytest.Config) -> set[Level]:
    names = config.option.retryspool_level.split(",")
    try:
        return {Level(name) for name in names}
    except ValueError:
        msg = (
            f"--retryspool-level is {','.join(names)!r}; it is one or more of {','.join(each.value for each in Level)}"
        )
        raise pytest.UsageError(msg) from None


def _clauses(config: pytest.Config) -> set[str]:
    text: str | None = config.option.retryspool_clause
    chosen = set(CLAUSES) if text is None else set(text.split(","))
    if not chosen <= set(CLAUSES):
        msg = f"--retryspool-clause is {text!r}; there's no clause {min(chosen - set(CLAUSES))!r}"
        raise pytest.UsageError(msg)
    return chosen


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of other levels and clauses, and those for a URL that wasn't given."""
    levels, clauses = _levels(config), _clauses(config)
    chosen: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        mark = _mark(item)
        given = getattr(getattr(item, "cls", None), "given", None)
        wanted = mark is None or (
            mark.level in levels
            and not clauses.isdisjoint(clause.id for clause in mark.clauses)
            and (given is None or config.getoption(given))
        )
        (chosen if wanted else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = chosen


def _mark(item: pytest.Item) -> TestMark | None:
    marker = item.get_closest_marker(TEST_MARK)
    return None if marker is None else marker.args[0]


def describe(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put on a test's report what the suite's own needs, and warn only where a clause is newer than the backend."""
    mark = _mark(item)
    if mark is None:
        return
    cls: type | None = getattr(item, "cls", None)
    name = item.nodeid.rpartition("::")[2]
    suite = f"{cls.__module__}.{cls.__qualname__}" if cls else item.nodeid
    declared = getattr(cls, "retryspool_contract", None)
    if report.failed and declared and not any(is_binding(clause, declared) for clause in mark.clauses):
        report.outcome = "skipped"
        report.wasxfail = f"{mark.clauses[0].id} is newer than the contract {declared} that the backend declares"
    deviation = item.get_closest_marker(DEVIATION_MARK)
    report.user_properties = [
        *item.user_properties,
        (
            PROPERTY,
            {
                "suite": suite,
                "test": name,
                "clauses": [clause.id for clause in mark.clauses],
                "level": mark.level.value,
                "deviation": f"{deviation.kwargs['reason']} ({deviation.kwargs['issue']})" if deviation else "",
            },
        ),
    ]


def new_report(config: pytest.Config) -> Report:
    """Return the report of this run, still without a test."""
    return Report(
        profile=config.option.retryspool_profile,
        levels=tuple(level.value for level in Level if level in _levels(config)),
        seed=config.option.retryspool_seed,
    )


def add_to_report(report: Report, result: pytest.TestReport, properties: dict[str, Any]) -> None:
    """Add what one phase of a test came to. A test counts by its call, or by a set-up that failed or skipped."""
    test = properties[PROPERTY]
    suite = report.suite(test["suite"])
    if result.when == "teardown":
        suite.troubles += [str(text) for key, text in result.user_properties if key == _TROUBLE]
    if not (result.when == "call" or result.outcome != "passed"):
        return
    suite.about = properties.get(_ABOUT, suite.about)
    kind, reason = _result(result, test["deviation"])
    suite.outcomes.append(
        Outcome(test["test"], tuple(test["clauses"]), test["level"], kind, reason, round(result.duration, 3))
    )


def _result(result: pytest.TestReport, deviation: str) -> tuple[str, str]:
    if deviation:
        return "deviates", deviation
    if hasattr(result, "wasxfail"):
        return "warned", result.wasxfail
    if result.skipped:
        return "skipped", str(result.longrepr[2] if isinstance(result.longrepr, tuple) else "").removeprefix(
            "Skipped: "
        )
    if result.failed:
        return "failed", str(getattr(getattr(result.longrepr, "reprcrash", None), "message", "")).split("\n", 1)[0]
    return "passed", ""


def finish(report: Report, paths: list[str], terminal: pytest.TerminalReporter) -> None:
    """Write the report's files, and tell on the terminal what the clauses came to."""
    for suite in report.suites.values():
        results = suite.clauses()
        broken = [clause for clause, result in results.items() if result == "failed"]
        kept = sum(result == "passed" for result in results.values())
        terminal.section(f"conformance of {suite.name}", "-")
        skipped = sum(result == "skipped" for result in results.values())
        others = f" ({skipped} skipped)" if skipped else ""
        terminal.line(f"{kept} of {len(results)} clauses kept{others}, profile {report.profile}, seed {report.seed}")
        if broken:
            terminal.line(f"broken: {', '.join(broken)}", red=True)
        for reason, number in suite.skips().items():
            terminal.line(f"{number} skipped: {reason}")
        for text in suite.troubles:
            terminal.line(f"clean-up: {text}", yellow=True)
    for path in paths:
        report.write(Path(path))
        terminal.line(f"report: {path}")
