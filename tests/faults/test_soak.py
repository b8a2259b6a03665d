"""A very small one of what `soak.py` does when it's run by hand, and the arithmetic of its figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("soak.py")


def soak(*arguments: str) -> None:
    command = [sys.executable, str(SOAK), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert 0 == result.returncode, result.stdout + result.stderr
    assert "left over or wrong 0" in result.stdout


@pytest.mark.timeout(160)
def test_faults_cost_no_message_and_leave_nothing_behind() -> None:
    soak("--messages=500", "--pause=0.5")


@pytest.mark.timeout(160)
@pytest.mark.redis
@pytest.mark.pg
def test_faults_of_servers_cost_no_message_and_leave_nothing_behind() -> None:
    soak("--messages=400", "--pause=2", "--meta=redis", "--data=pg")


def test_what_grows_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SOAK.parent)
    from soak_figures import MEMORY_MIB, Figure  # noqa: PLC0415 -- a script's, which is on no path

    flat, leak = Figure(MEMORY_MIB), Figure(MEMORY_MIB)
    for number in range(100):
        flat.add(number * 1000, 70 + number % 3)
        leak.add(number * 1000, 70 + number * 0.2)

    assert (True, False) == (flat.is_flat, leak.is_flat)
    assert (0.2 / 1000, 10.0) == pytest.approx((leak.slope(), leak.rise()), rel=0.05)
