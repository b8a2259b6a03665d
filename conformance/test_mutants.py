"""The suite finds each backend that has a bug, by the clause that the bug breaks."""

import re
from collections import Counter
from pathlib import Path

import pytest
from mutants import MUTANTS, Mutant
from mutants.run import verdicts_on

from retryspool.conformance import CLAUSES
from retryspool.meta import MetaBackend

PAGE = (Path(__file__).parents[1] / "docs" / "mutants.md").read_text()
A_RUN = 8
"""How many are tried in one run of pytest."""
RUNS = [list(MUTANTS.values())[first : first + A_RUN] for first in range(0, len(MUTANTS), A_RUN)]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutants", RUNS, ids=lambda mutants: f"{mutants[0].name} to {mutants[-1].name}")
def test_each_mutant_is_found_by_the_clause_that_it_breaks(mutants: list[Mutant]) -> None:
    verdicts = verdicts_on(mutants, timeout_s=280)

    assert [] == [(verdict.mutant.name, verdict.mutant.clause) for verdict in verdicts if not verdict.found_by]


def test_the_docs_have_each_mutant_with_its_bug_and_clause() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| ((?:META|DATA|FACTORY)-\d+) \|", PAGE, re.MULTILINE)

    assert [(mutant.name, mutant.bug, mutant.clause) for mutant in MUTANTS.values()] == rows


def test_there_are_enough_of_each_kind() -> None:
    meta = [mutant for mutant in MUTANTS.values() if issubclass(mutant.backend, MetaBackend)]
    modules = Counter(mutant.backend.__module__ for mutant in MUTANTS.values())

    assert len(MUTANTS) >= 40
    assert len(MUTANTS) - len(meta) >= 6
    assert min(modules["mutants.claims"], modules["mutants.races"], modules["mutants.payloads"]) >= 6
    assert set(CLAUSES) >= {mutant.clause for mutant in MUTANTS.values()}
