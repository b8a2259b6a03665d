"""`shape`: messages by route and age."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypedDict

import click

from retryspool_cli.filters import filter_options, make_filter, take_filter
from retryspool_cli.grouping import MOST_GROUPS, OTHERS, key_of
from retryspool_cli.output import json_option, new_table, note, print_json, print_table, printable
from retryspool_cli.sections import SectionedCommand, section
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import STATE_CHOICE

if TYPE_CHECKING:
    from retryspool import MessageMetadata

__all__ = ["ShapeJson", "shape_command"]

_MINUTES = (5, 10, 20, 40, 80, 160, 320, 640, 1280)
"""The ages that columns end at, as of Postfix's qshape."""
_COLUMNS = (*(str(minutes) for minutes in _MINUTES), f"{_MINUTES[-1]}+")


class ShapeJson(TypedDict):
    """A line of `shape --json`: so many messages up to so many minutes old, and older than the last."""

    value: str
    total: int
    ages: dict[str, int]


@click.command("shape", cls=SectionedCommand)
@click.argument("states_named", metavar="[STATE]...", nargs=-1, type=STATE_CHOICE)
@click.option("--by", default="route", show_default=True, metavar="WHAT", help="Or by error, policy, or header:NAME.")
@click.option("-n", "--limit", type=click.IntRange(0), default=20, show_default=True, help="How many lines; 0 for all.")
@section("Only messages", filter_options)
@json_option
@spool_options
@click.pass_context
def shape_command(
    ctx: click.Context,
    /,
    *,
    states_named: tuple[str, ...],
    by: str,
    limit: int,
    as_json: bool,
    **given: Any,
) -> None:
    """Count messages by route and age.

    Those in incoming, active and deferred, or in the states that are named. A column counts messages that are up to so
    many minutes old: a route whose messages pile up to the right is one that doesn't take them.

    With --json a line each: `{"value", "total", "ages"}`.
    """
    from rich.text import Text

    where = make_filter(states_named or ("incoming", "active", "deferred"), take_filter(given))
    with open_queue(settings_of(ctx)) as queue:
        shape = _shape(queue.select(where), by)
    found = sorted(shape.items(), key=lambda item: (-sum(item[1]), item[0]))
    shown = found[:limit] if limit else found
    if as_json:
        for value, ages in shown:
            document: ShapeJson = {
                "value": value,
                "total": sum(ages),
                "ages": dict(zip(_COLUMNS, ages, strict=True)),
            }
            print_json(document)
        return
    title = by.removeprefix("header:").upper()
    table = new_table(title, "TOTAL", *_COLUMNS, right=("TOTAL", *_COLUMNS))
    table.columns[0].no_wrap = False  # it gives way on a narrow terminal
    totals = [sum(column) for column in zip(*shape.values(), strict=True)] or [0] * len(_COLUMNS)
    for value, ages in [("TOTAL", totals), *((printable(value) or "-", ages) for value, ages in shown)]:
        name = Text(value, no_wrap=True, overflow="ellipsis")
        table.add_row(name, f"{sum(ages):,}", *(f"{count:,}" if count else "." for count in ages))
    print_table(table)
    if len(shown) < len(found):
        note(f"{len(shown)} of {len(found)} lines; --limit 0 lists all")


def _shape(records: Iterable[MessageMetadata], by: str) -> dict[str, list[int]]:
    from retryspool.model import utc_now

    key = key_of(by)
    shape: dict[str, list[int]] = {}
    for record in records:
        value = key(record)
        if value not in shape and len(shape) >= MOST_GROUPS:
            value = OTHERS
        minutes = (utc_now() - record.created).total_seconds() / 60
        column = next((place for place, most in enumerate(_MINUTES) if minutes <= most), len(_MINUTES))
        shape.setdefault(value, [0] * len(_COLUMNS))[column] += 1
    return shape
