"""The report of a run: clause by clause, for people and for programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retryspool.conformance.contract import CLAUSES, CONTRACT_VERSION

__all__ = ["Outcome", "Report", "SuiteReport"]

_ORDER = ("failed", "warned", "deviates", "passed", "skipped")
"""From the gravest on: what a clause comes to is the gravest of its tests."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one test came to."""

    test: str
    clauses: tuple[str, ...]
    level: str
    result: str
    """`passed`, `failed`, `skipped`, `deviates` (with a reason and an issue), or `warned` (the clause is too new)."""
    reason: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class SuiteReport:
    """One suite on one backend."""

    name: str
    about: dict[str, Any] = field(default_factory=dict[str, Any])
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    troubles: list[str] = field(default_factory=list[str])
    """What went wrong in cleaning up, which fails no test."""

    def clauses(self) -> dict[str, str]:
        """Return what each clause that was tried came to, in the contract's order."""
        results: dict[str, str] = {}
        for clause in CLAUSES:
            found = {outcome.result for outcome in self.outcomes if clause in outcome.clauses}
            if found:
                results[clause] = next(result for result in _ORDER if result in found)
        return results

    def skips(self) -> dict[str, int]:
        """Return how many tests were skipped, by reason."""
        return dict(sorted(Counter(each.reason for each in self.outcomes if each.result == "skipped").items()))

    def with_result(self, *results: str) -> list[Outcome]:
        """Return the tests that came to one of these."""
        return [outcome for outcome in self.outcomes if outcome.result in results]


@dataclass(slots=True)
class Report:
    """All suites of a run."""

    profile: str
    levels: tuple[str, ...]
    seed: int
    suites: dict[str, SuiteReport] = field(default_factory=dict[str, SuiteReport])

    def suite(self, name: str) -> SuiteReport:
        """Return the report of a suite, a new one at first."""
        return self.suites.setdefault(name, SuiteReport(name))

    def write(self, path: Path) -> None:
        """Write it as JSON or, by the name's ending, as Markdown."""
        path.write_text(self.markdown() if path.suffix == ".md" else self.json(), encoding="utf-8")

    def json(self) -> str:
        """Return it as JSON."""
        suites = [
            {
                "name": suite.name,
                "about": suite.about,
                "clauses": suite.clauses(),
                "skips": suite.skips(),
                "troubles": suite.troubles,
                "tests": [asdict(outcome) for outcome in suite.outcomes],
            }
            for suite in self.suites.values()
        ]
        head = {"contract": CONTRACT_VERSION, "profile": self.profile, "levels": self.levels, "seed": self.seed}
        return json.dumps({**head, "suites": suites}, indent=2, ensure_ascii=False) + "\n"

    def markdown(self) -> str:
        """Return it as Markdown."""
        return "\n".join(line for suite in self.suites.values() for line in self._suite_lines(suite))

    def _suite_lines(self, suite: SuiteReport) -> list[str]:
        about = suite.about
        versions: list[str] = [about.get("distribution", ""), *about.get("versions", {}).values()]
        counts = Counter(outcome.result for outcome in suite.outcomes)
        results = suite.clauses()
        lines = [
            f"# Conformance of `{suite.name}`",
            "",
            f"Contract {CONTRACT_VERSION}, profile {self.profile}, levels {', '.join(self.levels)}, seed {self.seed}.",
            "",
            f"- versions: {', '.join(dict.fromkeys(filter(None, versions))) or 'unknown'}",
            f"- capabilities: {_settings(about.get('capabilities', {}))}",
            f"- tests: {', '.join(f'{counts[result]} {result}' for result in _ORDER if counts[result])}",
            *(f"- `check()` found {text}" for text in about.get("findings", [])),
            *(f"- clean-up: {text}" for text in suite.troubles),
            "",
            "| clause | | tests | result |",
            "| --- | --- | --- | --- |",
        ]
        for clause, result in results.items():
            tests = [each for each in suite.outcomes if clause in each.clauses]
            ran = sum(each.result != "skipped" for each in tests)
            lines.append(f"| {clause} | {CLAUSES[clause].title} | {ran} of {len(tests)} | {result} |")
        lines += self._details(suite)
        return [*lines, ""]

    def _details(self, suite: SuiteReport) -> list[str]:
        lines: list[str] = []
        untried = [
            clause
            for clause in CLAUSES
            if clause not in suite.clauses()
            and clause.split("-")[0] in {each.split("-")[0] for each in suite.clauses()}
        ]
        if untried:
            lines += ["", f"Not tried at these levels: {', '.join(untried)}."]
        if suite.skips():
            lines += ["", "| skipped | because |", "| --- | --- |"]
            lines += [f"| {number} | {reason} |" for reason, number in suite.skips().items()]
        for title, results in (("Failures", ("failed",)), ("Deviations and warnings", ("deviates", "warned"))):
            tests = suite.with_result(*results)
            if tests:
                lines += ["", f"## {title}", ""]
                lines += [f"- `{each.test}` ({', '.join(each.clauses)}): {each.reason}" for each in tests]
        return lines


def _settings(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value if isinstance(value, str) else 'on' if value else 'off'}" for key, value in values.items()
    )
