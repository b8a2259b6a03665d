"""`ls`: list messages."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING

import click

from retryspool_cli.output import (
    STATE_STYLES,
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

__all__ = ["ls_command"]

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
