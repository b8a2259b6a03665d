"""`ls`: list messages."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import click

from retryspool_cli.filters import filter_options, make_filter, take_filter
from retryspool_cli.grouping import print_groups
from retryspool_cli.listing import message_table
from retryspool_cli.output import json_option, note, print_json, print_table
from retryspool_cli.sections import SectionedCommand, section
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import STATE_CHOICE, past, states

if TYPE_CHECKING:
    from retryspool import Filter, ListOptions, MessageMetadata, Queue, State

__all__ = ["ls_command"]

_PAGE = 1000


@click.command("ls", cls=SectionedCommand)
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
@click.option("--by", metavar="WHAT", help="Count them by error, route, state, policy, or the value of header:NAME.")
@section("Only messages", filter_options)
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
    by: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """List messages.

    Those of all states, or of the states that are named. With --json one record a line; with --by as well, one group:
    `{"by", "value", "count", "oldest", "newest", "example"}`. Errors are grouped by their words: addresses, long
    numbers and what stands in quotes differ from message to message, and are shown as `…`.
    """
    from retryspool import ListOptions, SortBy
    from retryspool_cli.records import record_json

    options = ListOptions(limit=limit or _PAGE, sort_by=SortBy(sort), descending=reverse, since=since)
    where = make_filter(states_named, take_filter(given))
    with open_queue(settings_of(ctx)) as queue:
        if by is not None:
            print_groups(queue.select(where), by, limit=limit, as_json=as_json)
            return
        listing = _Listing(queue, states(states_named), options, where, everything=limit == 0)
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

    def __init__(
        self, queue: Queue, among: list[State], options: ListOptions, where: Filter, *, everything: bool
    ) -> None:
        self._queue = queue
        self._among = among
        self._options = options
        self._where = where
        self._everything = everything
        self.total = 0
        self.narrowed = not replace(where, states=()).is_empty
        self.is_cut = False

    def __iter__(self) -> Iterator[MessageMetadata]:
        by = attrgetter(self._options.sort_by.value, "id")
        parts = [self._of(state) for state in self._among]
        merged = heapq.merge(*parts, key=by, reverse=self._options.descending)
        for number, record in enumerate(merged):
            if not self._everything and number >= self._options.limit:
                self.is_cut = True
                return
            yield record

    def _of(self, state: State) -> Iterator[MessageMetadata]:
        from retryspool import MessageNotFoundError

        options = replace(self._options, limit=_PAGE) if self.narrowed else self._options
        while True:
            page = self._queue.list(state, options)
            self.total += page.total if not options.offset else 0
            for message_id in page.message_ids:
                with suppress(MessageNotFoundError):  # it's done since
                    record = self._queue.get(message_id)
                    if record.state is state and self._where.matches(record):
                        yield record
            if not (self._everything or self.narrowed) or not page.has_more:
                return
            options = replace(options, offset=options.offset + options.limit)


def _print_listing(listing: _Listing) -> None:
    table = message_table(listing)
    print_table(table)
    if listing.total > table.row_count and not listing.narrowed:
        note(f"{table.row_count} of {listing.total} messages; --limit 0 lists all")
    elif listing.is_cut:
        note(f"{table.row_count} messages, and there are more; --limit 0 lists all")
