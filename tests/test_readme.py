"""The front page's commands are the ones that are run."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]


def quick_start() -> list[str]:
    section = (ROOT / "README.md").read_text().split("\n## Quick start\n")[1].split("\n## ")[0]
    return re.findall(r"^```\w*\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def test_the_quick_start_is_two_commands_of_one_line() -> None:
    demo, tests = quick_start()[:2]

    assert demo.endswith("uv run --no-dev retryspool demo\n")
    assert tests.endswith("uv run pytest\n")
    assert demo.count("\n") == tests.count("\n") == 1


def test_ci_runs_the_very_test_command_of_the_quick_start() -> None:
    tests = quick_start()[1].rstrip("\n")
    steps = [
        shlex.split(line, comments=True) for line in (ROOT / ".ci/run").read_text().splitlines() if "step " in line
    ]

    assert ["step", "tests", tests] == steps[0]
