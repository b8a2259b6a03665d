"""`wait`: until states are empty."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from retryspool_cli.exits import FAILED, OK
from retryspool_cli.output import error, progress_of
from retryspool_cli.settings import open_queue, settings_of, spool_options
from retryspool_cli.tallies import messages
from retryspool_cli.values import STATE_CHOICE, duration, states

if TYPE_CHECKING:
    from retryspool import Queue, State

__all__ = ["wait_command"]

_LISTEN_S = 1.0


@click.command("wait")
@click.argument("states_named", metavar="[STATE]...", nargs=-1, type=STATE_CHOICE)
@click.option("--timeout", type=duration, metavar="DURATION", help="Give up then; else it waits for ever.")
@spool_options
@click.pass_context
def wait_command(ctx: click.Context, /, *, states_named: tuple[str, ...], timeout: timedelta | None) -> int:
    """Wait until no message is in some states.

    In those that are named, or in incoming, active and deferred: until all is delivered or given up. Exits with 1 if
    the time is over before.
    """
    until = None if timeout is None else time.monotonic() + timeout.total_seconds()
    among = states(states_named or ("incoming", "active", "deferred"))
    with open_queue(settings_of(ctx)) as queue:
        left = _wait(queue, among, until)
    if left:
        error(f"{messages(left)} still in {', '.join(state.label for state in among)}")
    return FAILED if left else OK


def _wait(queue: Queue, among: list[State], until: float | None) -> int:
    """Wait, and return how many are left."""
    left = most = sum(queue.count(state) for state in among)
    with progress_of("waiting", most) as advance:
        while left and (until is None or time.monotonic() < until):
            queue.spool.meta.wait_for_change(_LISTEN_S if until is None else min(_LISTEN_S, until - time.monotonic()))
            time.sleep(0.05)  # what changes all the time is looked at now and then
            left = sum(queue.count(state) for state in among)
            advance(max(0, most - left))
    return left
