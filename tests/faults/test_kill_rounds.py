"""A few of the rounds that `kill_rounds.py` plays when it's run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_killed_processes_lose_no_message_and_leave_none_stuck() -> None:
    command = [sys.executable, str(Path(__file__).with_name("kill_rounds.py")), "--rounds=5", "--workers=2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert 0 == result.returncode, result.stdout + result.stderr
    assert "wrong 0" in result.stdout
