"""`enqueue`: put messages in."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click

from retryspool_cli.exits import FAILED, OK, WrongUsageError
from retryspool_cli.observers import add_observers, make_observers, observer_option
from retryspool_cli.output import error, json_option, note, print_json, progress
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import header, time

if TYPE_CHECKING:
    from retryspool import MessageMetadata, Queue

__all__ = ["enqueue_command"]


@click.command("enqueue")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option("-H", "--header", "headers", type=header, multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option(
    "--id", "message_id", metavar="ID", help="The message's id: makes a second try harmless. One message only."
)
@click.option("--route", default="", metavar="ROUTE", help="The destination, kept with the message.")
@click.option("--priority", type=click.IntRange(0, 100), metavar="0-100", help="1 goes before 5.")
@click.option("--not-before", type=time, metavar="TIME", help="Not before: 15m from now, or 2030-01-31T08:00.")
@click.option("--max-attempts", type=click.IntRange(1, 1000), metavar="N", help="So many failures, and it bounces.")
@click.option("--retry-policy", metavar="NAME", help="The name of a policy that the worker knows.")
@click.option(
    "--if-exists",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="Where there's a message with this --id: fail, or let it be and succeed.",
)
@observer_option
@json_option
@spool_options
@click.pass_context
def enqueue_command(
    ctx: click.Context,
    /,
    *,
    files: tuple[str, ...],
    headers: tuple[tuple[str, str], ...],
    message_id: str | None,
    if_exists: Literal["raise", "skip"],
    observers: tuple[str, ...],
    as_json: bool,
    **fields: Any,
) -> int:
    """Put files, or standard input, into the spool.

    Each file is a message; `-`, or no file at all, is standard input. Prints the id of each once it is safely stored:
    whatever was printed survives a crash and a power cut. With --json one record a line.
    """
    if message_id is not None and len(files) > 1:
        msg = f"--id names one message; {len(files)} files are {len(files)} messages"
        raise WrongUsageError(msg)
    job = _Job(dict(headers), message_id, if_exists, fields, as_json=as_json)
    settings = settings_of(ctx)
    watching = make_observers(observers or settings.observers)
    with open_queue(settings, create=True) as queue:
        add_observers(queue, watching)
        if len(files) < 2:  # noqa: PLR2004 -- one file has no progress
            return job.run(queue, files or ("-",))
        with progress(files, "enqueueing", total=len(files)) as names:
            return job.run(queue, names)


@dataclass(frozen=True, slots=True)
class _Job:
    headers: dict[str, str]
    message_id: str | None
    if_exists: Literal["raise", "skip"]
    fields: dict[str, Any]
    as_json: bool

    def run(self, queue: Queue, names: Iterable[str]) -> int:
        """Enqueue each; one that can't be read stops none of the others."""
        code = OK
        for name in names:
            try:
                source = _open(name)
            except OSError as problem:
                error(f"{name}: {problem.strerror}")
                code = FAILED
                continue
            with source as payload:
                record = self._enqueue(queue, payload)
            if self.as_json:
                from retryspool_cli.records import record_json

                print_json(record_json(record))
            else:
                click.echo(record.id)
        return code

    def _enqueue(self, queue: Queue, payload: BinaryIO) -> MessageMetadata:
        return queue.enqueue(
            payload, headers=self.headers, message_id=self.message_id, if_exists=self.if_exists, **self.fields
        )


def _open(name: str) -> AbstractContextManager[BinaryIO]:
    if name != "-":
        return Path(name).open("rb")
    if sys.stdin.isatty():
        note("reading the message from the terminal; Ctrl-D ends it")
    return nullcontext(sys.stdin.buffer)
