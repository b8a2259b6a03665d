"""`show` and `cat`: look at single messages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from retryspool_cli import completion
from retryspool_cli.exits import FAILED, OK
from retryspool_cli.output import STATE_STYLES, error, json_option, print_json, print_table, printable
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import ago

if TYPE_CHECKING:
    from retryspool import MessageMetadata, Queue

__all__ = ["cat_command", "show_command"]


@click.command("show")
@click.argument("message_ids", metavar="ID...", nargs=-1, required=True, shell_complete=completion.message_ids)
@json_option
@spool_options
@click.pass_context
def show_command(ctx: click.Context, /, *, message_ids: tuple[str, ...], as_json: bool) -> int:
    """Show all that is known of a message.

    With --json one record a line.
    """
    from retryspool_cli.records import record_json

    def show(queue: Queue, message_id: str) -> None:
        record = queue.get(message_id)
        if as_json:
            print_json(record_json(record))
        else:
            _print_record(record)

    return _for_each(ctx, message_ids, show)


def _for_each(ctx: click.Context, message_ids: tuple[str, ...], action: Callable[[Queue, str], None]) -> int:
    from retryspool import InvalidMessageIdError, StorageError

    code = OK
    with open_queue(settings_of(ctx)) as queue:
        for message_id in message_ids:
            try:
                action(queue, message_id)
            except (InvalidMessageIdError, StorageError) as problem:
                error(str(problem))
                code = FAILED
    return code


def _print_record(record: MessageMetadata) -> None:
    from rich.table import Table
    from rich.text import Text

    from retryspool import NEVER, ZERO_TIME
    from retryspool.model import utc_now

    now = utc_now()

    def when(moment: datetime) -> str:
        if moment == ZERO_TIME:
            return "-"
        if moment == NEVER:
            return "never"
        return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z} ({ago(moment, now)})"

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    label = record.state.label
    claimed_from = f", claimed from {record.claimed_from.label}" if record.claimed_from else ""
    grid.add_row("id", printable(record.id))
    grid.add_row("state", Text.assemble((label, STATE_STYLES[label]), claimed_from))
    grid.add_row("attempts", f"{record.attempts} of {record.max_attempts}, {record.deliveries} deliveries begun")
    grid.add_row("next retry", when(record.next_retry))
    grid.add_row("created", when(record.created))
    grid.add_row("updated", when(record.updated))
    if record.lease_owner:
        grid.add_row("lease", f"{printable(record.lease_owner)}, until {when(record.lease_expires)}")
    grid.add_row("size", f"{record.size:,} bytes")
    grid.add_row("priority", str(record.priority))
    grid.add_row("route", printable(record.route) or "-")
    grid.add_row("retry policy", printable(record.retry_policy_name) or "the default")
    grid.add_row("last error", printable(record.last_error) or "-")
    grid.add_row("version", str(record.version))
    for name, value in sorted(record.headers.items()):
        grid.add_row("header", f"{printable(name)}: {printable(value)}")
    print_table(grid)


@click.command("cat")
@click.argument("message_ids", metavar="ID...", nargs=-1, required=True, shell_complete=completion.message_ids)
@spool_options
@click.pass_context
def cat_command(ctx: click.Context, /, *, message_ids: tuple[str, ...]) -> int:
    """Print payloads, byte for byte.

    One after the other, with nothing between them.
    """
    import shutil

    def copy(queue: Queue, message_id: str) -> None:
        with queue.open_payload(message_id) as payload:
            shutil.copyfileobj(payload, sys.stdout.buffer)
        sys.stdout.buffer.flush()

    return _for_each(ctx, message_ids, copy)
