"""Which messages a command is about: ids as arguments or on standard input, or all of some states."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import click

from retryspool_cli import completion
from retryspool_cli.exits import WrongUsageError
from retryspool_cli.output import is_terminal
from retryspool_cli.values import STATE_CHOICE, duration, states

if TYPE_CHECKING:
    from retryspool import Queue

__all__ = ["Selection", "selection_options"]

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user has said about which messages are meant."""

    message_ids: tuple[str, ...]
    everything: bool
    state: tuple[str, ...]
    route: str | None
    older_than: timedelta | None
    dry_run: bool
    yes: bool

    def check(self, possible: tuple[str, ...]) -> None:
        """Check that what was said makes sense.

        :param possible: the states whose messages the command can be about
        :raises WrongUsageError: it doesn't
        """
        if self.everything == bool(self.message_ids):
            msg = (
                "name messages by their ids (- reads them from standard input), or all of a state: --all --state STATE"
            )
            raise WrongUsageError(msg)
        if self.everything and not self.state:
            msg = f"--all needs --state: one or more of {', '.join(possible)}"
            raise WrongUsageError(msg)
        if not self.everything and (self.state or self.route is not None or self.older_than is not None):
            msg = "--state, --route and --older-than narrow --all down; they don't go with ids"
            raise WrongUsageError(msg)
        wrong = [state for state in self.state if state not in possible]
        if wrong:
            msg = f"--state {wrong[0]}: this is for messages in {', '.join(possible)}"
            raise WrongUsageError(msg)

    def confirm(self, queue: Queue, verb: str) -> None:
        """Ask before a change to all messages of a state.

        :raises WrongUsageError: there's nobody to ask
        """
        if not self.everything or self.yes or self.dry_run:
            return
        if not is_terminal(sys.stdin):
            msg = f"{verb} all of {', '.join(self.state)}? Add --yes, or look first with --dry-run"
            raise WrongUsageError(msg)
        narrowed = self.route is not None or self.older_than is not None
        count = sum(queue.count(state) for state in states(self.state))
        some = "up to " if narrowed else ""
        click.confirm(f"{verb} {some}{count} messages in {', '.join(self.state)}?", abort=True, err=True)

    def ids(self, queue: Queue) -> Iterator[str]:
        """Yield the ids, each as it was named or found."""
        if not self.everything:
            for message_id in self.message_ids:
                if message_id == "-":
                    lines = (line.decode("utf-8", "replace").strip() for line in sys.stdin.buffer)
                    yield from (line for line in lines if line)
                else:
                    yield message_id
            return
        from retryspool.model import utc_now

        now = utc_now()
        for state in states(self.state):
            for record in queue.iter(state):
                if self.route is not None and record.route != self.route:
                    continue
                if self.older_than is not None and now - record.created < self.older_than:
                    continue
                yield record.id


def selection_options(function: Function) -> Function:
    """Let a command take a selection: its arguments are the fields of `Selection`."""
    decorators = (
        click.argument("message_ids", metavar="[ID]...", nargs=-1, shell_complete=completion.message_ids),
        click.option("--all", "everything", is_flag=True, help="All messages of the states named with --state."),
        click.option("--state", multiple=True, type=STATE_CHOICE, metavar="STATE", help="With --all; may be repeated."),
        click.option("--route", metavar="ROUTE", help="With --all: only those of this route."),
        click.option("--older-than", type=duration, metavar="DURATION", help="With --all: only those accepted before."),
        click.option("-n", "--dry-run", is_flag=True, help="Only say which they are."),
        click.option("-y", "--yes", is_flag=True, help="With --all: don't ask."),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function
