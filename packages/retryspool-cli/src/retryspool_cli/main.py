"""The command `retryspool`. A command's module is imported when it is called, so that --help answers at once."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, TextIO

import click

from retryspool_cli import output
from retryspool_cli.exits import BROKEN_PIPE, FAILED, INTERRUPTED, OK, USAGE, CommandError
from retryspool_cli.settings import Given, spool_options

__all__ = ["SECTIONS", "app", "main", "run"]


class _Entry(NamedTuple):
    module: str
    summary: str


SECTIONS: dict[str, dict[str, _Entry]] = {
    "Messages in and out": {
        "enqueue": _Entry("enqueue", "Put files, or standard input, into the spool."),
        "work": _Entry("work", "Deliver messages: to a function, a command, a webhook or a mail server."),
    },
    "Look": {
        "ls": _Entry("ls", "List messages."),
        "show": _Entry("show", "Show all that is known of a message."),
        "cat": _Entry("show", "Print payloads, byte for byte."),
        "stats": _Entry("stats", "Count the messages in each state."),
        "shape": _Entry("shape", "Count messages by route and age."),
        "wait": _Entry("wait", "Wait until no message is in some states."),
    },
    "Operate": {
        "hold": _Entry("operate", "Set messages aside until they are released."),
        "release": _Entry("operate", "Let messages on hold go on."),
        "retry": _Entry("operate", "Make messages due now."),
        "bounce": _Entry("operate", "Give messages up."),
        "requeue": _Entry("operate", "Deliver archived messages again, as if they had just come in."),
        "set": _Entry("operate", "Change the route, priority or retry policy of messages."),
        "rm": _Entry("operate", "Delete messages for good."),
        "pause": _Entry("pause", "Let workers claim nothing until it is resumed."),
        "resume": _Entry("pause", "Let workers claim again."),
    },
    "Move": {
        "migrate": _Entry("transfer", "Move messages to another spool, while both are worked."),
        "export": _Entry("transfer", "Write messages to files, from which import brings them back as they were."),
        "import": _Entry(
            "transfer", "Take messages from files: an export, a Maildir, a mailbox, an archive, or any files."
        ),
    },
    "Care": {
        "health": _Entry("health", "Tell whether a worker, or a spool, is ready."),
        "check": _Entry("care", "Find settings and contents that endanger messages."),
        "reconcile": _Entry("care", "Sweep what a crash left between records and payloads."),
        "prune": _Entry("care", "Delete archived messages by age."),
        "backends": _Entry("backends", "List the backends, the middleware and the observers that are installed."),
    },
    "Try": {
        "demo": _Entry("demo", "Watch messages survive a failing receiver and a killed worker."),
        "conformance": _Entry("conformance", "Prove a backend or a middleware against the contract."),
        "bench": _Entry("bench", "Measure a spool on this disk, against the disk itself."),
        "completion": _Entry("completion", "Print the shell's completion script."),
    },
}
"""Every command, its module in `retryspool_cli.commands`, and its summary, which a test compares with its help."""

_COMMANDS = {name: entry for entries in SECTIONS.values() for name, entry in entries.items()}


class _LazyGroup(click.Group):
    """A group that imports a command when it is needed, and knows the summaries by heart."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, by section."""
        return [*_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"retryspool_cli.commands.{entry.module}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        del ctx
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, entry.summary) for name, entry in entries.items()], col_max=12)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@spool_options
@click.option(
    "-v", "--verbose", count=True, help="Log more to standard error than what is wrong: -v what happens, -vv in detail."
)
@click.version_option(package_name="retryspool-cli", message="retryspool %(version)s")
@click.pass_context
def app(ctx: click.Context, verbose: int) -> None:
    """Look into a durable message spool, operate it, and work it.

    A message is a payload and a record. It waits in INCOMING, is ACTIVE while a worker has it, DEFERRED until its next
    retry, on HOLD until it is released, in BOUNCE when it failed for good, and may be ARCHIVED in the end.

    Exit codes: 0 done; 1 failed, or failed for some messages; 2 wrong usage, nothing was changed; 3 `check` or
    `reconcile` found something.
    """
    ctx.ensure_object(Given)
    import logging

    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler()
    if not verbose:  # what a driver warns of, such as a server that can't be reached, ends in an error of ours
        handler.addFilter(lambda record: record.name.startswith("retryspool") or record.levelno >= logging.ERROR)
    logging.basicConfig(level=level, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code: an error is one line on standard error."""
    try:
        with app.make_context("retryspool", list(sys.argv[1:] if arguments is None else arguments), obj=Given()) as ctx:
            result: object = app.invoke(ctx)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        output.note("interrupted")
        return INTERRUPTED
    except Exception as problem:  # noqa: BLE001 -- what isn't expected is raised again
        return _exit_code(problem)
    return result if isinstance(result, int) else OK


def _exit_code(problem: Exception) -> int:
    """Tell the user, and return the exit code. A bug shows its traceback."""
    if isinstance(problem, click.exceptions.Exit):
        return problem.exit_code
    if isinstance(problem, click.ClickException):
        problem.show()
        return problem.exit_code
    from retryspool import InvalidInputError, RetrySpoolError

    if not isinstance(problem, (CommandError, RetrySpoolError, OSError)):
        raise problem
    output.error(" ".join(str(problem).split()) or type(problem).__name__)
    if isinstance(problem, CommandError):
        return problem.exit_code
    return USAGE if isinstance(problem, InvalidInputError) else FAILED


def _drop_output() -> None:
    """Point standard output nowhere, so that Python's own flush at the end finds no broken pipe."""
    with suppress(OSError, ValueError):  # it's no real file, as under a test's runner
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command and exit."""
    stdout: TextIO = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="backslashreplace")  # a terminal that knows no ☕ still shows the rest
    if "_RETRYSPOOL_COMPLETE" in os.environ:
        app.main(prog_name="retryspool", obj=Given())  # answers the shell, and exits
    sys.exit(run())
