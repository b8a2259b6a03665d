"""What is printed: tables for people, JSON for scripts, errors and progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

__all__ = [
    "STATE_STYLES",
    "console",
    "error",
    "is_terminal",
    "json_option",
    "new_table",
    "note",
    "print_json",
    "print_table",
    "printable",
    "progress",
    "progress_of",
]

Item = TypeVar("Item")

_UNLIMITED = 100_000
"""The width of a table that goes to a file or a pipe: nothing is wrapped there, nothing cut."""

STATE_STYLES = {
    "incoming": "cyan",
    "active": "green",
    "deferred": "yellow",
    "hold": "magenta",
    "bounce": "red",
    "archived": "bright_black",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def printable(text: str) -> str:
    """Return a text that does nothing to a terminal: what isn't printable is shown as its escape.

    What stands in a spool came from somebody: an id, a header or an error may hold escape sequences.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def print_json(value: object, *, indent: int | None = None) -> None:
    """Print one JSON value on a line of its own, or indented as a document, in ASCII: that prints anywhere."""
    sys.stdout.write(json.dumps(value, indent=indent) + "\n")


def console(*, stderr: bool = False) -> Console:
    """Return a console without markup or guesses; colours only on a terminal, and not under NO_COLOR."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _UNLIMITED
    return Console(file=stream, markup=False, highlight=False, emoji=False, width=width, soft_wrap=width is not None)


def new_table(*columns: str, right: Sequence[str] = (), wrap: Sequence[str] = ()) -> Table:
    """Return a plain table: what `grep` and `awk` can read too.

    :param right: the columns of numbers
    :param wrap: the columns that may take several lines on a narrow terminal; others are cut
    """
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column not in wrap,
            overflow="fold" if column in wrap else "ellipsis",
        )
    return table


def print_table(table: Table) -> None:
    """Print a table, without the blanks that fill its lines up."""
    out = console()
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def is_terminal(stream: TextIO) -> bool:
    """Tell whether there's a person at the other end."""
    return stream.isatty()


def error(text: str) -> None:
    """Say on standard error what went wrong, in one line."""
    click.secho("Error: ", err=True, nl=False, fg="red", bold=True, color=_colour_on_stderr())
    click.echo(printable(text), err=True)


def note(text: str) -> None:
    """Say something on standard error that isn't the command's output."""
    click.echo(printable(text), err=True)


def _colour_on_stderr() -> bool:
    import os

    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


@contextmanager
def progress(items: Iterable[Item], label: str, *, total: int | None = None) -> Generator[Iterable[Item]]:
    """Show how far a loop over `items` is, on standard error, if that is a terminal; gone when it's done."""
    if not sys.stderr.isatty():
        yield items
        return
    with _bar() as bar:
        yield bar.track(items, description=label, total=total)


@contextmanager
def progress_of(label: str, total: int | None) -> Generator[Callable[[int], None]]:
    """Show how far something is, on standard error, if that is a terminal: it calls what this yields with how much."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with _bar() as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)


def _bar() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what goes to a file or a pipe would end up on the terminal
    )
