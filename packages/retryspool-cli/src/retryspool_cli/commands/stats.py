"""`stats`: how many messages are where."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import click

from retryspool_cli.output import STATE_STYLES, console, json_option, new_table, note, print_json, print_table
from retryspool_cli.pauses import paused_json, paused_table, print_paused
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.values import ago, duration

if TYPE_CHECKING:
    from rich.table import Table

    from retryspool import Queue, State
    from retryspool.queue import Paused

__all__ = ["stats_command"]

_BAR = 30


class _State(NamedTuple):
    messages: int
    oldest: datetime | None
    """When the oldest was accepted."""
    oldest_due: datetime | None


class StateJson(TypedDict):
    """One state in `stats --json`."""

    count: int
    oldest: str | None
    oldest_due: str | None


@click.command("stats")
@click.option("-w", "--watch", is_flag=True, help="Go on showing them, until Ctrl-C.")
@click.option("--interval", type=duration, default="1s", show_default=True, metavar="DURATION", help="How often.")
@json_option
@spool_options
@click.pass_context
def stats_command(ctx: click.Context, /, *, watch: bool, interval: timedelta, as_json: bool) -> None:
    """Count the messages in each state.

    And what is paused, if anything is. With --json one document a line: `{"time", "total", "states": {state: {"count",
    "oldest", "oldest_due"}}, "paused": {"spool", "routes"}}`, `oldest` being when the oldest message was accepted.
    """
    settings = settings_of(ctx)
    with open_queue(settings) as queue:
        if watch and not as_json and console().is_terminal:
            _watch(queue, str(settings), interval.total_seconds())
            return
        while True:
            _print(_read(queue), _paused(queue), as_json=as_json)
            if not watch:
                return
            threading.Event().wait(interval.total_seconds())


def _paused(queue: Queue) -> Paused | None:
    """Return what is paused; None, and say why, if that can't be read: the counts are worth having all the same."""
    from retryspool import StorageError

    try:
        return queue.paused()
    except StorageError as error:
        note(str(error))
        return None


def _read(queue: Queue) -> dict[str, _State]:
    return {
        state.label: _State(count, _oldest(queue, state) if count else None, queue.oldest_due(state))
        for state, count in queue.counts().items()
    }


def _oldest(queue: Queue, state: State) -> datetime | None:
    from retryspool import ListOptions, MessageNotFoundError

    for message_id in queue.list(state, ListOptions(limit=1)).message_ids:
        with suppress(MessageNotFoundError):  # it's done since
            return queue.get(message_id).created
    return None


def _print(stats: dict[str, _State], paused: Paused | None, *, as_json: bool) -> None:
    if not as_json:
        print_table(_table(stats))
        if paused is not None:
            print_paused(paused)
        return
    from retryspool.model import utc_now
    from retryspool_cli.records import time_json

    by_state: dict[str, StateJson] = {
        label: {"count": count, "oldest": time_json(oldest), "oldest_due": time_json(due)}
        for label, (count, oldest, due) in stats.items()
    }
    total = sum(state.messages for state in stats.values())
    print_json(
        {
            "time": time_json(utc_now()),
            "total": total,
            "states": by_state,
            "paused": None if paused is None else paused_json(paused),
        }
    )


def _table(stats: dict[str, _State]) -> Table:
    from rich.text import Text

    from retryspool.model import utc_now

    now = utc_now()
    table = new_table("STATE", "MESSAGES", "OLDEST", "NEXT DUE", "", right=("MESSAGES",))
    most = max(1, *(state.messages for state in stats.values()))
    for label, (count, oldest, due) in stats.items():
        style = STATE_STYLES[label]
        bar = "█" * (0 if not count else max(1, count * _BAR // most))
        table.add_row(
            Text(label, style=style),
            f"{count:,}",
            ago(oldest, now) if oldest else "-",
            _due(label, due, now),
            Text(bar, style=style),
        )
    return table


def _due(label: str, due: datetime | None, now: datetime) -> str:
    from retryspool import NEVER, ZERO_TIME

    if due is None or due == NEVER or label in {"hold", "bounce", "archived"}:
        return "-"
    return "now" if due == ZERO_TIME or due <= now else ago(due, now)


def _watch(queue: Queue, title: str, interval_s: float) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from retryspool_cli.output import printable

    heading = Text(printable(title), style="bold")
    with Live(console=console(), auto_refresh=False, screen=False) as live:
        while True:
            found = _paused(queue)
            paused = paused_table(found) if found is not None else None
            live.update(Group(heading, _table(_read(queue)), *([paused] if paused else [])), refresh=True)
            threading.Event().wait(interval_s)
