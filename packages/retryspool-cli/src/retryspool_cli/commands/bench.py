"""`bench`: how fast a spool is here."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.output import json_option, new_table, note, print_json, print_table, printable
from retryspool_cli.settings import Given, load_settings, spool_options
from retryspool_cli.values import size_text

if TYPE_CHECKING:
    from retryspool_cli.measure import Figure

__all__ = ["bench_command"]


@click.command("bench")
@click.option("--messages", type=click.IntRange(100), default=1000, show_default=True, help="How many, in each part.")
@click.option("--size", type=click.IntRange(0), default=1024, show_default=True, help="The payloads' size in bytes.")
@click.option("--threads", type=click.IntRange(2, 256), default=8, show_default=True, help="In the parts with several.")
@json_option
@spool_options
@click.pass_context
def bench_command(ctx: click.Context, /, *, messages: int, size: int, threads: int, as_json: bool) -> None:
    """Measure a spool on this disk, against the disk itself.

    In a folder of its own, made inside the one that --spool names, or the current one, and removed afterwards: messages
    that are there aren't touched. A part takes 2 seconds at the most.
    Each rate is given by a floor that was measured in the same run, from Python too: safe creates (create, write,
    fsync, rename, fsync of the directory), renames, removals. An enqueue makes two files safe, so its floor is half the
    safe creates. With --json one document:
    `{"folder", "messages", "size", "threads", "figures": [{"name", "rate", "floor", "ratio"}]}`.
    """
    from retryspool_cli.measure import measure

    folder = _folder(ctx)
    if not as_json:
        note(f"{messages} messages of {size_text(size)} in {folder}")
    with tempfile.TemporaryDirectory(prefix=".retryspool-bench-", dir=folder) as temporary:
        figures = measure(Path(temporary), messages=messages, size=size, threads=threads)
    if as_json:
        rows = [
            {"name": f.name, "rate": round(f.rate, 1), "floor": f.floor or None, "ratio": f.ratio and round(f.ratio, 3)}
            for f in figures
        ]
        document = {"folder": str(folder), "messages": messages, "size": size, "threads": threads, "figures": rows}
        print_json(document, indent=2)
    else:
        _print(figures)


def _folder(ctx: click.Context) -> Path:
    """Return the folder whose disk is meant: that of the spool that is named, else the current one."""
    try:
        settings = load_settings(ctx.find_object(Given) or Given(), os.environ, Path())
    except WrongUsageError as problem:
        if "which spool?" not in str(problem):
            raise
        return Path()
    if settings.spool is None:
        msg = "bench measures a spool in a folder: name one with --spool"
        raise WrongUsageError(msg)
    folder = settings.spool.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _print(figures: list[Figure]) -> None:
    table = new_table("WHAT", "A SECOND", "× FLOOR", "FLOOR", right=("A SECOND", "× FLOOR"))
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        table.add_row(figure.name, f"{figure.rate:,.0f}", ratio, printable(figure.floor))
    print_table(table)
