"""The tests of networks can fail: each finds what is wrong with a client that does it wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITES = Path(__file__).with_name("network_mutants.py")
SUPPORT = Path(__file__).parents[4] / "tests" / "support"
FOUND_BY = {
    "ForgetsTheDeadline": "test_a_store_that_hangs_is_given_up_in_time[lost-reply]",
    "TimesEachByte": "test_a_store_that_hangs_is_given_up_in_time[drip]",
    "SaysNothingHappened": "test_what_may_have_become_of_a_write_is_told",
    "TriesAgainBlindly": "test_what_may_have_become_of_a_write_is_told",
    "NeverKnows": "test_what_could_not_be_sent_was_not_done",
    "TakesHalfForAll": "test_an_iteration_that_is_cut_never_ends_as_if_it_were_complete",
    "LosesRoom": "test_it_works_again_with_as_many_connections[reset-before-reply]",
    "KeepsTheDead": "test_it_works_again_when_all_connections_were_cut",
    "SleepsOn": "test_a_wait_that_is_hit_ends_and_later_ones_are_woken[half-open]",
    "ForgetfulServer": "test_restarts_under_load_lose_nothing_that_was_acknowledged",
    "ShowsHalf": "test_a_writer_that_is_cut_makes_all_visible_or_nothing[refused]",
    "EndsEarly": "test_a_reader_that_is_cut_never_ends_as_if_it_were_at_the_end",
    "ListsHalf": "test_an_iteration_that_is_cut_never_ends_as_if_it_were_complete",
    "HidesAnError": "test_what_may_have_become_of_a_write_is_told",
}
RUNS = [list(FOUND_BY)[start::3] for start in range(3)]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("mutants", RUNS, ids=lambda mutants: mutants[0])
def test_each_mutant_of_the_network_is_found(mutants: list[str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    plain = ["-c", "/dev/null", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    tests = [f"{SUITES}::Test{mutant}::{FOUND_BY[mutant]}" for mutant in mutants]

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, "-q", f"--retryspool-report={report}", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert report.exists(), done.stdout + done.stderr
    results = {
        suite["name"].rpartition(".Test")[2]: {test["test"]: test["result"] for test in suite["tests"]}
        for suite in json.loads(report.read_text())["suites"]
    }
    assert {mutant: {FOUND_BY[mutant]: "failed"} for mutant in mutants} == results, done.stdout
