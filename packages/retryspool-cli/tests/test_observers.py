from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retryspool import Queue, State

from .conftest import Cli, put

DIARY = """
from pathlib import Path
from retryspool import Observer

class Diary(Observer):
    def write(self, line):
        with Path("diary").open("a") as file:
            print(line, file=file)

    def added(self, queue):
        self.write("added")

    def accepted(self, record):
        self.write(f"accepted {record.id}")

    def settled(self, settled):
        self.write(f"{settled.outcome} {settled.record.id}")

    def closing(self):
        self.write("closing")

def make():
    return Diary
"""


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(DIARY)
    return tmp_path / "diary"


@pytest.mark.usefixtures("spool")
def test_an_observer_of_the_users_own_is_told_of_what_is_enqueued_and_worked(process: Cli, diary: Path) -> None:
    process("enqueue", "--id", "m1", "--observer", "mine:Diary")
    process("work", "--exec", "true", "--drain", "--observer", "mine:Diary", "--observer", "mine:Diary")

    assert [
        *("added", "accepted m1", "closing"),
        *("added", "added", "delivered m1", "delivered m1", "closing", "closing"),
    ] == diary.read_text().splitlines()


@pytest.mark.usefixtures("spool")
def test_an_observer_of_the_settings_is_told_unless_an_option_names_another(process: Cli, diary: Path) -> None:
    diary.with_name("retryspool.toml").write_text('observers = ["mine:Diary"]')

    process("enqueue", "--id", "m1")
    process("work", "--exec", "true", "--drain")
    unknown = process("enqueue", "--observer", "dairy")

    assert ["added", "accepted m1", "closing", "added", "delivered m1", "closing"] == diary.read_text().splitlines()
    assert (2, True) == (unknown.code, "observer 'dairy': there is none of this name" in unknown.err)


@pytest.mark.usefixtures("spool")
def test_an_observer_that_is_installed_is_found_by_its_name(process: Cli, diary: Path, tmp_path: Path) -> None:
    for distribution in ("ours", "theirs"):
        package = tmp_path / distribution / f"{distribution}-1.0.dist-info"
        package.mkdir(parents=True)
        (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (package / "entry_points.txt").write_text(
            f"[retryspool.observers]\ndiary = mine:Diary\n{distribution} = no_such_module:Diary\n"
        )
    one, both = (
        {"PYTHONPATH": os.pathsep.join(str(tmp_path / name) for name in names)}
        for names in (["ours"], ["ours", "theirs"])
    )

    found = process("enqueue", "--id", "m1", "--observer", "diary", env=one)
    listed = process("backends", "--json", env=one).json["plugins"]
    broken = process("enqueue", "--observer", "ours", env=one)
    twice = process("enqueue", "--observer", "diary", env=both)
    unknown = process("enqueue", "--observer", "dairy", env=one)

    assert (0, ["added", "accepted m1", "closing"]) == (found.code, diary.read_text().splitlines())
    assert {"kind": "observer", "name": "diary", "distribution": "ours", "version": "1.0"} in listed
    assert (2, 2, 2) == (broken.code, twice.code, unknown.code)
    assert "ours can't be imported: No module named 'no_such_module'" in broken.err
    assert "is offered by both ours and theirs" in twice.err
    assert "there is none of this name; installed: diary, otel, ours" in unknown.err


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("mine:make", "which isn't a retryspool.Observer"),
        ("mine:nothing", "mine has no 'nothing'"),
        ("mine:DIARY", "it can't be called"),
        ("no_such_module:x", "there is no module 'no_such_module' here"),
    ],
)
def test_what_makes_no_observer_is_told_before_anything_is_delivered(
    named: str, message: str, process: Cli, diary: Path, queue: Queue
) -> None:
    module = diary.with_name("mine.py")
    module.write_text(f"{module.read_text()}\nDIARY = 'no observer'\n")
    message_id = put(queue, State.INCOMING)

    result = process("work", "--exec", "true", "--drain", "--observer", named)

    assert 2 == result.code
    assert message in result.err
    assert (State.INCOMING, 0) == (queue.get(message_id).state, queue.get(message_id).deliveries)


def test_without_an_observer_nothing_of_opentelemetry_is_imported(queue: Queue, spool: Path) -> None:
    put(queue, State.INCOMING)
    program = (
        "import sys; from retryspool_cli.main import run; code = run(sys.argv[1:]); "
        "sys.exit(code or any(name.partition('.')[0] == 'opentelemetry' for name in sys.modules))"
    )
    command = [sys.executable, "-c", program, "--spool", str(spool), "work", "--exec", "true", "--drain"]

    without = subprocess.run(command, capture_output=True, timeout=50, check=False)
    asked = subprocess.run(
        [*command, "--observer", "otel"],
        env={**os.environ, "OTEL_SDK_DISABLED": "true"},
        capture_output=True,
        timeout=50,
        check=False,
    )

    assert (0, 1) == (without.returncode, asked.returncode)
