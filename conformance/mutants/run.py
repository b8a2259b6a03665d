"""Run the suite on mutants, and show which clause finds which: `python conformance/mutants/run.py [NAME …]`.

Each is tried with the tests of the clause that it breaks. Ends with 1 if one gets away. With `--list` they are only
named, as in docs/mutants.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SEARCH_PATH = (
    HERE.parent,
    ROOT / "docs" / "examples" / "retryspool-onefile-meta" / "src",
    ROOT / "tests" / "support",
)
sys.path[:0] = [str(folder) for folder in SEARCH_PATH]

from mutants import MUTANTS, Mutant  # noqa: E402 -- found by the path above


@dataclass(frozen=True)
class Verdict:
    """What the suite said of a mutant."""

    mutant: Mutant
    found_by: list[str]
    """The tests of its clause that failed."""
    tried: int


def verdicts_on(mutants: Sequence[Mutant], *, timeout_s: float | None = None) -> list[Verdict]:
    """Try some, in a pytest of its own.

    :raises RuntimeError: pytest didn't come to its end
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        plain = ("-c", "/dev/null", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly")
        command = [
            *(sys.executable, "-m", "pytest", *plain, "-vv", "--rootdir", folder, "--basetemp", f"{folder}/tmp"),
            *(f"--retryspool-report={report}", str(HERE / "suite.py")),
        ]
        # As CI runs it, and whoever looks for a bug: then pytest tells all of two values that differ, which may take
        # minutes, and so must be none that are large.
        environment = {
            **os.environ,
            "CI": "true",
            "RETRYSPOOL_MUTANTS": ",".join(mutant.name for mutant in mutants),
            "PYTHONPATH": os.pathsep.join(map(str, SEARCH_PATH)),
        }
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if not report.exists():
            raise RuntimeError(done.stdout + done.stderr)
        suites = {
            suite["name"].rpartition(".Test")[2]: suite["tests"] for suite in json.loads(report.read_text())["suites"]
        }
    return [_verdict(mutant, suites.get(mutant.backend.__name__, [])) for mutant in mutants]


def _verdict(mutant: Mutant, tests: list[dict[str, str]]) -> Verdict:
    failed = [test["test"] for test in tests if test["result"] == "failed"]
    return Verdict(mutant, failed, sum(test["result"] != "skipped" for test in tests))


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the verdicts as a table in Markdown."""
    lines = ["| mutant | the bug | clause | found by |", "| --- | --- | --- | --- |"]
    for verdict in verdicts:
        mutant = verdict.mutant
        found = f"{len(verdict.found_by)} of {verdict.tried} tests" if verdict.found_by else "**nothing**"
        lines.append(f"| `{mutant.name}` | {mutant.bug} | {mutant.clause} | {found} |")
    return "\n".join(lines)


def main(names: list[str]) -> int:
    """Show the table."""
    if names == ["--list"]:
        print("| mutant | the bug | clause |\n| --- | --- | --- |")
        for mutant in MUTANTS.values():
            print(f"| `{mutant.name}` | {mutant.bug} | {mutant.clause} |")
        return 0
    verdicts = verdicts_on([MUTANTS[name] for name in names] or list(MUTANTS.values()))
    print(table(verdicts))
    return int(not all(verdict.found_by for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
