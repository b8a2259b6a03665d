"""A few of the rounds that `kill_rounds.py` plays when it's run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def play(*arguments: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name("kill_rounds.py")), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert 0 == result.returncode, result.stdout + result.stderr
    assert "wrong 0" in result.stdout


@pytest.mark.timeout(120)
def test_killed_processes_lose_no_message_and_leave_none_stuck() -> None:
    play("--rounds=5", "--workers=2")


@pytest.mark.timeout(120)
def test_killed_processes_lose_no_message_that_coroutines_handle() -> None:
    play("--rounds=5", "--workers=2", "--coroutines", "--handling=0.05")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("data", ["pg", "s3"])
def test_killed_processes_lose_no_message_of_two_servers(
    redis_url: str, data: str, request: pytest.FixtureRequest
) -> None:
    play("--rounds=5", "--workers=2", f"--meta={redis_url}", f"--data={request.getfixturevalue(f'{data}_url')}")


@pytest.mark.timeout(120)
def test_workers_that_were_frozen_for_longer_than_a_lease_settle_nothing_that_others_took_over(
    redis_url: str, tmp_path: Path
) -> None:
    arguments = ("--stalls", "--handling=0.1", "--rounds=8", "--workers=4")
    play(*arguments, f"--meta={redis_url}", f"--data=fs:{tmp_path}/payloads")
