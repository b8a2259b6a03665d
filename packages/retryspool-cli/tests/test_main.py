import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

from retryspool_cli.main import SECTIONS, app, run

from .conftest import Cli

NAMES = [name for entries in SECTIONS.values() for name in entries]


@pytest.mark.parametrize("name", NAMES)
def test_the_summary_of_a_command_is_the_first_line_of_its_help(name: str) -> None:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    (entry,) = [entries[name] for entries in SECTIONS.values() if name in entries]

    assert entry.summary == (command.help or "").split("\n")[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str, cli: Cli) -> None:
    result = cli(name, "--help")

    assert 0 == result.code
    assert result.text.startswith(f"Usage: retryspool {name}")


def test_help_and_version_import_neither_the_spool_nor_what_draws_tables() -> None:
    code = (
        "import sys; from retryspool_cli.main import run; run(['--help']);"
        "sys.exit(sorted({'retryspool', 'rich', 'urllib3', 'smtplib', 'logging'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    assert all(name in done.stdout for name in NAMES)


@pytest.mark.parametrize(
    ("verbose", "expected"),
    [
        ([], ["ERROR driver.pool", "WARNING retryspool.x", "ERROR retryspool.x"]),
        (["-v"], ["WARNING driver.pool", "ERROR driver.pool", "WARNING retryspool.x", "ERROR retryspool.x"]),
    ],
    ids=["quiet", "verbose"],
)
def test_warnings_of_drivers_are_for_those_who_ask_for_more(verbose: list[str], expected: list[str]) -> None:
    code = (
        f"import logging; from retryspool_cli.main import run; run([*{verbose}, 'backends', '--json']);"
        "[logging.getLogger(name).log(level, '') for name in ('driver.pool', 'retryspool.x') for level in (30, 40)]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert expected == [line.split(" ", 2)[2].rstrip(": ") for line in done.stderr.splitlines()]


def test_exit_codes_tell_success_failure_and_wrong_usage_apart(process: Cli, tmp_path: Path) -> None:
    spool = tmp_path / "spool"

    assert 0 == process("--spool", spool, "enqueue", stdin=b"x").code
    assert 1 == process("--spool", spool, "show", "unknown").code
    assert 2 == process("--spool", tmp_path / "nowhere", "ls").code
    assert 2 == process("ls", "--spool", spool, "--sort", "colour").code
    assert 2 == process("nonsense").code


def test_an_error_is_one_line_without_a_traceback(process: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    for arguments in (
        ("--spool", tmp_path / "nowhere", "ls"),
        ("--spool", tmp_path / "file" / "spool", "enqueue"),
        ("--meta", "nosuch:x", "--data", "fs:y", "ls"),
        ("--meta", "fs:x?colour=red", "--data", "fs:y", "ls"),
    ):
        result = process(*arguments)

        assert result.code in {1, 2}
        assert 1 == result.err.count("\n"), result.err
        assert result.err.startswith("Error: ")


def test_options_that_name_the_spool_stand_before_or_after_the_command(cli: Cli, spool: Path) -> None:
    assert 0 == cli("--spool", spool, "ls").code
    assert 0 == cli("ls", "--spool", spool).code


@pytest.mark.usefixtures("spool")
def test_a_reader_that_stops_reading_is_no_error() -> None:
    for arguments in (["stats"], ["stats", "--json"], ["backends"], ["completion", "bash"], ["--help"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "retryspool_cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        with process.stderr as errors:
            assert b"" == errors.read()

        assert 141 == process.wait(), arguments


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retryspool_cli.settings.load_settings", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run(["ls"])


@pytest.mark.usefixtures("spool")
@pytest.mark.usefixtures("spool")
def test_a_terminal_that_knows_ascii_alone_shows_the_rest(process: Cli) -> None:
    process("enqueue", "-H", "drink=☕", "--id", "one", stdin=b"x")

    result = process("show", "one", env={"PYTHONIOENCODING": "ascii"})

    assert 0 == result.code
    assert "drink: \\u2615" in result.text


@pytest.mark.usefixtures("spool")
def test_progress_is_on_standard_error_and_only_on_a_terminal(tmp_path: Path) -> None:
    """The output goes to a file while standard error is a terminal."""
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text("x")
    terminal, other_end = pty.openpty()
    with (tmp_path / "ids").open("wb") as ids:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "retryspool_cli",
                "enqueue",
                "--json",
                *(str(file) for file in tmp_path.glob("*.txt")),
            ],
            stdout=ids,
            stderr=other_end,
            stdin=subprocess.DEVNULL,
        )
        os.close(other_end)
        seen = b""
        with suppress(OSError):  # the end of a terminal
            while chunk := os.read(terminal, 65536):
                seen += chunk
        assert 0 == process.wait()
    os.close(terminal)

    assert 20 == len((tmp_path / "ids").read_text().splitlines())
    assert b"enqueueing" in seen


def test_colours_are_for_terminals(cli: Cli) -> None:
    assert b"\x1b" not in cli("stats").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion_script(shell: str, cli: Cli) -> None:
    result = cli("completion", shell)

    assert 0 == result.code
    assert "_RETRYSPOOL_COMPLETE" in result.text


def test_states_and_ids_complete(process: Cli, spool: Path) -> None:
    process("enqueue", "--id", "mine", stdin=b"x")

    def complete(words: str) -> list[str]:
        environment = {
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
            "_RETRYSPOOL_COMPLETE": "bash_complete",
        }
        return process(env=environment).lines

    assert ["plain,deferred"] == complete("retryspool ls def")
    assert ["plain,mine"] == complete("retryspool show mi")
    assert ["plain,mine"] == complete(f"retryspool --spool {spool} hold mi")
    assert [""] == complete("retryspool --spool /nowhere hold mi")
