"""Which messages a command is about: ids as arguments or on standard input, or all that a filter means."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retryspool_cli import completion
from retryspool_cli.exits import WrongUsageError
from retryspool_cli.filters import FILTERS, filter_options, make_filter, state_option, take_filter
from retryspool_cli.output import is_terminal
from retryspool_cli.sections import section

if TYPE_CHECKING:
    from retryspool import Filter

__all__ = ["Selection", "selection_options"]

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user has said about which messages are meant."""

    message_ids: tuple[str, ...]
    everything: bool
    state: tuple[str, ...]
    narrowing: dict[str, Any]
    """The options of the filter, as they were given."""
    dry_run: bool
    yes: bool

    @classmethod
    def take(cls, given: dict[str, Any]) -> Selection:
        """Take what `selection_options` adds out of a command's arguments."""
        narrowing = take_filter(given)
        names = ("message_ids", "everything", "state", "dry_run", "yes")
        return cls(narrowing=narrowing, **{name: given.pop(name) for name in names})

    def check(self, possible: tuple[str, ...]) -> None:
        """Check that what was said makes sense.

        :param possible: the states whose messages the command can be about
        :raises WrongUsageError: it doesn't
        """
        narrowed = bool(self.state) or any(self.narrowing[name] not in {None, ()} for name in FILTERS)
        if self.everything == bool(self.message_ids):
            msg = (
                "name messages by their ids (- reads them from standard input), or all of a state: --all --state STATE"
            )
            raise WrongUsageError(msg)
        if self.everything and not narrowed:
            msg = f"--all needs --state, or another option that says which; --state is one of {', '.join(possible)}"
            raise WrongUsageError(msg)
        if not self.everything and narrowed:
            msg = "--state, --route and the like narrow --all down; they don't go with ids"
            raise WrongUsageError(msg)
        wrong = [state for state in self.state if state not in possible]
        if wrong:
            msg = f"--state {wrong[0]}: this is for messages in {', '.join(possible)}"
            raise WrongUsageError(msg)

    @property
    def where(self) -> Filter:
        """What `--all` means, narrowed down."""
        return make_filter(self.state, self.narrowing)

    def needs_answer(self, verb: str, *, as_json: bool) -> bool:
        """Tell whether a person has to be asked first.

        :raises WrongUsageError: there's nobody to ask
        """
        if self.yes or self.dry_run:
            return False
        if as_json or not is_terminal(sys.stdin):
            msg = f"{verb} all of {', '.join(self.state) or 'them'}? Add --yes, or look first with --dry-run"
            raise WrongUsageError(msg)
        return True

    def ids(self) -> Iterator[str]:
        """Yield the ids that were named."""
        for message_id in self.message_ids:
            if message_id == "-":
                lines = (line.decode("utf-8", "replace").strip() for line in sys.stdin.buffer)
                yield from (line for line in lines if line)
            else:
                yield message_id


def selection_options(function: Function) -> Function:
    """Let a `SectionedCommand` take a selection; `Selection.take` finds it among its arguments."""
    decorators = (
        click.argument("message_ids", metavar="[ID]...", nargs=-1, shell_complete=completion.message_ids),
        click.option("--all", "everything", is_flag=True, help="All messages that the options below mean."),
        section("With --all, only messages", state_option, filter_options),
        click.option("-n", "--dry-run", is_flag=True, help="Only say which, and how many."),
        click.option("-y", "--yes", is_flag=True, help="With --all: don't ask."),
    )
    for decorator in reversed(decorators):
        function = decorator(function)
    return function
