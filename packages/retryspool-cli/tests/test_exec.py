import json
import os
import shlex
import signal
import threading
from pathlib import Path

import pytest

from retryspool import State
from retryspool_cli.handlers.command import PERMANENT, TEMPORARY, CommandHandler

from .conftest import Deliver, wait_for


def test_the_payload_is_the_commands_standard_input(deliver: Deliver, tmp_path: Path) -> None:
    content = os.urandom(300_000)

    record = deliver(CommandHandler(f"cat > {tmp_path / 'got'}"), content)

    assert State.ARCHIVED is record.state
    assert content == (tmp_path / "got").read_bytes()


def test_what_is_known_of_the_message_is_in_the_environment(deliver: Deliver, tmp_path: Path) -> None:
    headers = {"to": "me@example.com", "X-Odd name": "a\nb", "quote": "'; touch pwned; '$(touch pwned)"}

    record = deliver(CommandHandler(f"env -0 > {tmp_path / 'env'}"), headers=headers, route="r", message_id="id-1")

    lines = (tmp_path / "env").read_text().split("\0")
    got = dict(line.split("=", 1) for line in lines if line.startswith("RETRYSPOOL_"))
    assert State.ARCHIVED is record.state
    assert ("id-1", "0", "1", "7", "r") == tuple(
        got[f"RETRYSPOOL_{name}"] for name in ("ID", "ATTEMPTS", "DELIVERIES", "SIZE", "ROUTE")
    )
    assert ("me@example.com", "a\nb") == (got["RETRYSPOOL_HEADER_TO"], got["RETRYSPOOL_HEADER_X_ODD_NAME"])
    assert headers == json.loads(got["RETRYSPOOL_RECORD"])["headers"]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("code", [1, 2, 63, 71, 75, 79, 126, 127, 255])
def test_codes_that_mean_later(code: int, deliver: Deliver) -> None:
    record = deliver(CommandHandler(f"echo the reason >&2; exit {code}"))

    assert State.DEFERRED is record.state
    assert f"exit code {code}" in record.last_error
    assert "the reason" in record.last_error


@pytest.mark.parametrize("code", sorted(PERMANENT))
def test_codes_that_mean_never(code: int, deliver: Deliver) -> None:
    record = deliver(CommandHandler(f"echo the reason; exit {code}"))

    assert State.BOUNCE is record.state
    assert f"exit code {code} ({PERMANENT[code]}): the reason" in record.last_error


def test_the_codes_are_those_of_sysexits() -> None:
    named = {
        getattr(os, name): name for name in dir(os) if name.startswith("EX_") and name not in {"EX_OK", "EX_NOTFOUND"}
    }

    assert named == {code: text.split(",")[0] for code, text in {**PERMANENT, **TEMPORARY}.items()}


def test_a_command_that_does_not_read_its_input_is_no_failure(deliver: Deliver) -> None:
    assert State.ARCHIVED is deliver(CommandHandler("exec 0<&-; exit 0"), b"x" * 10_000_000).state


def test_a_command_that_dies_by_a_signal_is_tried_again(deliver: Deliver) -> None:
    record = deliver(CommandHandler("kill -9 $$"))

    assert State.DEFERRED is record.state
    assert "signal 9" in record.last_error


def test_a_command_that_says_much_neither_hangs_nor_fills_the_record(deliver: Deliver) -> None:
    record = deliver(CommandHandler("head -c 5000000 /dev/zero | tr '\\0' x; echo the end; exit 75"))

    assert len(record.last_error) <= 1000


def test_a_command_that_runs_too_long_is_killed_with_all_it_started(deliver: Deliver, tmp_path: Path) -> None:
    command = f"sleep 1000 & echo $! > {shlex.quote(str(tmp_path / 'child'))}; wait"

    record = deliver(CommandHandler(command, timeout_s=0.5))

    assert State.DEFERRED is record.state
    assert "longer than 0.5 s" in record.last_error
    wait_for(lambda: not is_alive(int((tmp_path / "child").read_text())))


def test_what_a_command_leaves_behind_is_killed(deliver: Deliver, tmp_path: Path) -> None:
    record = deliver(CommandHandler(f"sleep 1000 & echo $! > {tmp_path / 'child'}; exit 0"))

    assert State.ARCHIVED is record.state
    wait_for(lambda: not is_alive(int((tmp_path / "child").read_text())))


def test_a_stop_kills_what_runs_and_refuses_what_comes(deliver: Deliver, tmp_path: Path) -> None:
    handler = CommandHandler(f"echo $$ > {tmp_path / 'new'}; mv {tmp_path / 'new'} {tmp_path / 'pid'}; sleep 1000")

    def stop_when_it_runs() -> None:
        wait_for((tmp_path / "pid").exists)
        handler.stop()

    stopper = threading.Thread(target=stop_when_it_runs)
    stopper.start()
    record = deliver(handler, max_attempts=1)
    stopper.join()

    assert "the worker stopped" in record.last_error
    wait_for(lambda: not is_alive(int((tmp_path / "pid").read_text())))
    assert "stopping" in deliver(handler).last_error


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that is dead and waits for its parent doesn't."""
    try:
        os.kill(pid, signal.SIG_DFL)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
