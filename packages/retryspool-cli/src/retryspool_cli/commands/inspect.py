"""`ls`, `show` and `cat`: look at messages."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING

import click

from retryspool_cli import completion
from retryspool_cli.exits import FAILED, OK
from retryspool_cli.output import (
    STATE_STYLES,
    error,
    json_option,
    new_table,
    note,
    print_json,
    print_table,
    printable,
)
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import STATE_CHOICE, ago, duration_text, past, size_text, states

if TYPE_CHECKING:
    from retryspool import ListOptions, MessageMetadata, Queue, State

__all__ = ["cat_command", "ls_command", "show_command"]

_PAGE = 1000


@click.command("ls")
@click.argument("states_named", metavar="[STATE]...", nargs=-1, type=STATE_CHOICE)
@click.option(
    "--sort",
    type=click.Choice(["created", "updated", "priority", "attempts", "next_retry"]),
    default="created",
    show_default=True,
    help="What to sort by.",
)
@click.option("-r", "--reverse", is_flag=True, help="Largest, or latest, first.")
@click.option(
    "--since", type=past, metavar="TIME", help="Only those created or updated since: 2h, or 2030-01-31T08:00."
)
@click.option("-n", "--limit", type=click.IntRange(0), default=100, show_default=True, help="How many; 0 for all.")
@click.option("-q", "--ids", "ids_only", is_flag=True, help="Print ids only, one a line.")
@json_option
@spool_options
@click.pass_context
def ls_command(
    ctx: click.Context,
    /,
    *,
    states_named: tuple[str, ...],
    sort: str,
    reverse: bool,
    since: datetime | None,
    limit: int,
    ids_only: bool,
    as_json: bool,
) -> None:
    """List messages.

    Those of all states, or of the states that are named. With --json one record a line.
    """
    from retryspool import ListOptions, SortBy
    from retryspool_cli.records import record_json

    options = ListOptions(limit=limit or _PAGE, sort_by=SortBy(sort), descending=reverse, since=since)
    with open_queue(settings_of(ctx)) as queue:
        listing = _Listing(queue, states(states_named), options, everything=limit == 0)
        if ids_only:
            for record in listing:
                click.echo(record.id)
        elif as_json:
            for record in listing:
                print_json(record_json(record))
        else:
            _print_listing(listing)


class _Listing:
    """The records of several states, in one order."""

    def __init__(self, queue: Queue, among: list[State], options: ListOptions, *, everything: bool) -> None:
        self._queue = queue
        self._among = among
        self._options = options
        self._everything = everything
        self.total = 0

    def __iter__(self) -> Iterator[MessageMetadata]:
        by = attrgetter(self._options.sort_by.value, "id")
        parts = [self._of(state) for state in self._among]
        merged = heapq.merge(*parts, key=by, reverse=self._options.descending)
        for number, record in enumerate(merged):
            if not self._everything and number >= self._options.limit:
                return
            yield record

    def _of(self, state: State) -> Iterator[MessageMetadata]:
        from dataclasses import replace

        from retryspool import MessageNotFoundError

        options = self._options
        while True:
            page = self._queue.list(state, options)
            self.total += page.total if not options.offset else 0
            for message_id in page.message_ids:
                with suppress(MessageNotFoundError):  # it's done since
                    record = self._queue.get(message_id)
                    if record.state is state:
                        yield record
            if not self._everything or not page.has_more:
                return
            options = replace(options, offset=options.offset + options.limit)


def _print_listing(listing: _Listing) -> None:
    from rich.text import Text

    from retryspool.model import utc_now

    table = new_table("ID", "STATE", "TRIES", "AGE", "DUE", "SIZE", "ROUTE", "LAST ERROR", right=("TRIES", "SIZE"))
    table.columns[-1].no_wrap = False  # it is the one that gives way on a narrow terminal
    now = utc_now()
    for record in listing:
        label = record.state.label
        table.add_row(
            printable(record.id),
            Text(label, style=STATE_STYLES[label]),
            f"{record.attempts}/{record.max_attempts}",
            duration_text(now - record.created, short=True),
            _due(record, now),
            size_text(record.size),
            printable(record.route),
            Text(printable(_reason(record)), no_wrap=True, overflow="ellipsis"),
        )
    print_table(table)
    if listing.total > table.row_count:
        note(f"{table.row_count} of {listing.total} messages; --limit 0 lists all")


def _reason(record: MessageMetadata) -> str:
    """Return the last error, without what its class adds to what the state says already."""
    return record.last_error.removeprefix("RetryableError: ").removeprefix("PermanentError: ")


def _due(record: MessageMetadata, now: datetime) -> str:
    from retryspool import NEVER, State

    if record.state is State.ACTIVE:
        return f"lease {ago(record.lease_expires, now, short=True)}" if record.lease_owner else "no lease"
    if record.state in {State.HOLD, State.BOUNCE, State.ARCHIVED} or record.next_retry == NEVER:
        return "-"
    return ago(record.next_retry, now, short=True) if record.next_retry > now else "now"


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
