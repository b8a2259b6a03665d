"""`demo`: watch messages survive."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from retryspool_cli.exits import FAILED, OK
from retryspool_cli.output import error

__all__ = ["demo_command"]


@click.command("demo")
@click.option(
    "--messages", type=click.IntRange(20, 10_000), default=360, show_default=True, help="How many; about 40 a second."
)
@click.option("--keep", is_flag=True, help="Keep the folder: spool, files, logs.")
def demo_command(messages: int, keep: bool) -> int:
    """Watch messages survive a failing receiver and a killed worker.

    Spools files of several kinds, and delivers them by webhook, with two `retryspool work` processes, to a local
    receiver that is busy now and then, has lost a subscriber, and goes down for a while. An operator holds some
    messages and releases them. One worker is killed with `kill -9` in the middle.

    In the end every message is accounted for, by the receiver's own log and by SHA-256. Exits with 1 if one is lost,
    damaged, or delivered twice without a reason.
    """
    from retryspool_cli.demo.scenario import Scenario
    from retryspool_cli.demo.screen import open_screen, print_ledger

    folder = tempfile.mkdtemp(prefix="retryspool-demo-") if keep else None
    with tempfile.TemporaryDirectory(prefix="retryspool-demo-") as temporary:
        with open_screen() as screen:
            ledger = Scenario(Path(folder or temporary), messages, screen).run()
        click.echo()
        print_ledger(ledger)
    if folder is not None:
        click.echo(f"\nkept in {folder}; look at it with: retryspool --spool {folder}/spool ls")
    if not ledger.is_clean:
        error("a promise was broken: see the ledger")
        return FAILED
    return OK
