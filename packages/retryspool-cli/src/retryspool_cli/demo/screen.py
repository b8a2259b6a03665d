"""How the demo looks: live on a terminal, in plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from retryspool import State
from retryspool_cli.demo.ledger import Ledger
from retryspool_cli.demo.scenario import View
from retryspool_cli.output import STATE_STYLES, console, new_table, print_table

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Screen", "open_screen", "print_ledger"]

_BAR = 40
_EVENTS = 9
_LINE_EVERY_S = 1.0


class Screen(Protocol):
    """Where the demo is shown."""

    def __call__(self, view: View) -> None:
        """Show it as it is now."""
        ...


@contextmanager
def open_screen() -> Generator[Screen]:
    """Yield the screen that standard output allows."""
    out = console()
    if not out.is_terminal:
        yield _Lines()
        return
    with Live(console=out, auto_refresh=False) as live:
        yield lambda view: live.update(_picture(view), refresh=True)


class _Lines:
    """A line for each event, and each second one with the counts."""

    def __init__(self) -> None:
        self._events = 0
        self._next_s = _LINE_EVERY_S

    def __call__(self, view: View) -> None:
        for at, text in view.events[self._events :]:
            click.echo(f"{at:5.1f}s  {text}")
        self._events = len(view.events)
        if view.seconds >= self._next_s:
            self._next_s = view.seconds + _LINE_EVERY_S
            counts = "  ".join(f"{state.label} {count}" for state, count in view.counts.items())
            click.echo(f"{view.seconds:5.1f}s    {counts}")


def _picture(view: View) -> RenderableType:
    return Group(_states(view), Text(), _facts(view), Text(), *_events(view))


def _states(view: View) -> Table:
    table = new_table("STATE", "MESSAGES", "", right=("MESSAGES",))
    most = max(1, view.accepted)
    for state in State:
        count = view.counts.get(state, 0)
        style = STATE_STYLES[state.label]
        bar = "█" * (0 if not count else max(1, count * _BAR // most))
        table.add_row(Text(state.label, style=style), str(count), Text(bar.ljust(_BAR), style=style))
    return table


def _facts(view: View) -> Table:
    delivered = view.answered.get(200, 0)
    refused = ", ".join(f"{count} × {status}" for status, count in sorted(view.answered.items()) if status != 200)  # noqa: PLR2004 -- success
    grid = Table.grid(padding=(0, 2))
    grid.add_row("spooled", f"{view.accepted}")
    rate = f", {delivered / view.seconds:.0f} a second" if view.seconds else ""
    grid.add_row("answered 200", f"{delivered}{rate}")
    grid.add_row("else", refused or "-")
    state = Text("up", style="green") if view.receiver_up else Text("down", style="bold red")
    grid.add_row("receiver", state)
    for title, up in view.servers.items():
        grid.add_row(title, Text("up", style="green") if up else Text("killed", style="bold red"))
    for worker in view.workers:
        alive = Text(f"process {worker.pid}", style="green")
        dead = Text(f"process {worker.pid}: killed", style="bold red")
        grid.add_row(worker.name, dead if worker.was_killed else alive)
    return grid


def _events(view: View) -> list[Text]:
    lines = [Text(f"{at:5.1f}s  {text}") for at, text in view.events[-_EVENTS:]]
    return lines + [Text()] * (_EVENTS - len(lines))


def print_ledger(ledger: Ledger) -> None:
    """Print the audit."""
    twice = "all of them because of a kill: their results were not stored yet" if ledger.twice else ""
    if ledger.unexplained:
        twice = f"{len(ledger.unexplained)} of them NOT because of a kill"
    rows = [
        ("accepted", len(ledger.accepted), "what enqueue returned"),
        ("delivered", len(ledger.delivered), "by the receiver's own log, byte for byte"),
        ("delivered twice", len(ledger.twice), twice),
        ("bounced", len(ledger.bounced), "their subscriber has left (410); kept, byte for byte"),
        ("damaged", len(ledger.damaged), ""),
        ("still waiting", len(ledger.waiting), ""),
        ("lost", len(ledger.lost), ""),
    ]
    if ledger.strangers:
        rows.append(("never accepted", len(ledger.strangers), "delivered, but enqueue never returned their ids"))
    table = new_table("LEDGER", "MESSAGES", "", right=("MESSAGES",), wrap=("",))
    good = {"damaged", "still waiting", "lost", "never accepted"}
    for name, count, remark in rows:
        style = "" if name not in good else "bold red" if count else "bold green"
        table.add_row(Text(name, style=style), Text(str(count), style=style), remark)
    print_table(table)
