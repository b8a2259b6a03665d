"""The suite finds each middleware that has a bug, by the clause that the bug breaks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from mutants.middleware import MUTANTS

from retryspool.conformance import CLAUSES

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "mutants.md").read_text()
PLAIN = ("-p", "no:cacheprovider", "-p", "no:randomly", "-vv", "-c", os.devnull, "--noconftest", "--rootdir", ".")
ONLY_ITS_CLAUSE = """
    from mutants.middleware import MUTANTS, suites
    from retryspool.conformance.marks import clauses_of

    globals().update(suites())

    def pytest_collection_modifyitems(items):
        kept = {f"Test_{each.name.replace('-', '_')}": each.clause for each in MUTANTS.values()}
        items[:] = [
            item
            for item in items
            if kept[item.cls.__name__] in {each.id for each in clauses_of(item.function).clauses}
        ]
"""


@pytest.mark.timeout(300)
def test_each_mutant_is_found_by_the_clause_that_it_breaks(tmp_path: Path) -> None:
    (tmp_path / "test_mutants.py").write_text(dedent(ONLY_ITS_CLAUSE))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *PLAIN,
            "-p",
            "test_mutants",
            "-n2",
            "--retryspool-report=report.json",
            "test_mutants.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "CI": "true", "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert 1 == done.returncode, done.stdout + done.stderr
    suites = json.loads((tmp_path / "report.json").read_text())["suites"]
    found = {suite["name"].rpartition("Test_")[2].replace("_", "-"): suite["clauses"] for suite in suites}

    assert {} == {
        each.name: found.get(each.name) for each in MUTANTS.values() if found[each.name][each.clause] != "failed"
    }


def test_the_docs_have_each_mutant_with_its_bug_and_clause() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+?) \| (MIDDLEWARE-\d+) \|", PAGE, re.MULTILINE)

    assert [(mutant.name, mutant.bug, mutant.clause) for mutant in MUTANTS.values()] == rows


def test_every_clause_has_a_mutant() -> None:
    assert {each for each in CLAUSES if each.startswith("MIDDLEWARE-")} == {each.clause for each in MUTANTS.values()}
