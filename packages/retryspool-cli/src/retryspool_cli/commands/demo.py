"""`demo`: watch messages survive."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click

from retryspool_cli.exits import FAILED, OK
from retryspool_cli.output import error
from retryspool_cli.settings import CONFIG_FILE

__all__ = ["demo_command"]


@click.command("demo")
@click.option(
    "--messages", type=click.IntRange(20, 10_000), default=360, show_default=True, help="How many; about 40 a second."
)
@click.option(
    "--meta", default="fs", show_default=True, metavar="URL|NAME", help="Where the records are: files, redis, a URL."
)
@click.option(
    "--data", default="fs", show_default=True, metavar="URL|NAME", help="Where the payloads are: files, s3, pg, a URL."
)
@click.option("--keep", is_flag=True, help="Keep the folder: spool, files, logs.")
def demo_command(messages: int, meta: str, data: str, keep: bool) -> int:
    """Watch messages survive a failing receiver and a killed worker.

    Spools files of several kinds, and delivers them by webhook, with two `retryspool work` processes, to a local
    receiver that is busy now and then, has lost a subscriber, and goes down for a while. An operator holds some
    messages and releases them. One worker is killed with `kill -9` in the middle.

    The messages are in files, unless --meta or --data say otherwise. A name, such as redis, starts a throw-away server
    for the demo, from a wheel, which is killed in the middle too, and started again. A URL names a server of yours: the
    demo works in a namespace of its own there, and removes it in the end.

    In the end every message is accounted for, by the receiver's own log and by SHA-256. Exits with 1 if one is lost,
    damaged, or delivered twice without a reason.
    """
    from retryspool_cli.demo.scenario import Scenario
    from retryspool_cli.demo.screen import open_screen, print_ledger
    from retryspool_cli.demo.stores import open_stores
    from retryspool_cli.servers import ServerError

    with tempfile.TemporaryDirectory(prefix="retryspool-demo-") as temporary:
        folder = Path(tempfile.mkdtemp(prefix="retryspool-demo-") if keep else temporary)
        try:
            with open_stores(folder / "spool", meta, data, keep=keep) as stores:
                with _logging_to(folder / "demo.log"), open_screen() as screen:
                    ledger = Scenario(folder, stores, messages, screen).run()
                click.echo()
                print_ledger(ledger)
        except ServerError as problem:
            click.echo(f"error: {problem}", err=True)  # in lines, as the server's log is
            return FAILED
    if keep:
        where = "" if stores.servers else f"; look at it with: retryspool --config {folder}/{CONFIG_FILE} ls"
        click.echo(f"\nkept in {folder}{where}")
    if not ledger.is_clean:
        error("a promise was broken: see the ledger")
        return FAILED
    return OK


@contextmanager
def _logging_to(path: Path) -> Generator[None]:
    """Keep the screen for the demo: what drivers log of a killed server goes to a file."""
    root = logging.getLogger()
    before = root.handlers[:]
    file = logging.FileHandler(path, delay=True)
    root.handlers[:] = [file]
    try:
        yield
    finally:
        root.handlers[:] = before
        file.close()
