"""Options that say which messages are meant, as a `Filter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retryspool_cli.values import STATE_CHOICE, at_least_at_most, header, past, sizes, states, time

if TYPE_CHECKING:
    from retryspool import Filter

__all__ = ["FILTERS", "filter_options", "make_filter", "state_option", "take_filter"]

Function = TypeVar("Function", bound=Callable[..., object])

state_option = click.option(
    "--state", multiple=True, type=STATE_CHOICE, metavar="STATE", help="In this state, or in any of several."
)

_TIME = "TIME"
_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--route",), {"multiple": True, "metavar": "PATTERN", "help": "Of this route, or of any of several."}),
    (("--header",), {"multiple": True, "type": header, "metavar": "NAME=PATTERN", "help": "With this header."}),
    (("--id", "id_pattern"), {"metavar": "PATTERN", "help": "With an id like this."}),
    (("--error",), {"metavar": "TEXT", "help": "Whose last error contains this, in any case."}),
    (("--error-regex",), {"metavar": "REGEX", "help": "Whose last error a regular expression finds."}),
    (("--older-than",), {"type": past, "metavar": _TIME, "help": "Accepted longer ago: 2h, or before a time."}),
    (("--newer-than",), {"type": past, "metavar": _TIME, "help": "Accepted since."}),
    (("--untouched",), {"type": past, "metavar": _TIME, "help": "Last written longer ago."}),
    (("--touched",), {"type": past, "metavar": _TIME, "help": "Last written since."}),
    (("--due-before",), {"type": time, "metavar": _TIME, "help": "Due before: 1h from now, or a time."}),
    (("--due-after",), {"type": time, "metavar": _TIME, "help": "Due then or later."}),
    (("--attempts",), {"type": at_least_at_most, "metavar": "RANGE", "help": "That failed so often: 3, 3.. or ..5."}),
    (("--size",), {"type": sizes, "metavar": "RANGE", "help": "Of so many bytes: 1M.. or ..64K."}),
)

FILTERS = tuple(names[-1].removeprefix("--").replace("-", "_") for names, _ in _OPTIONS)
"""The names of the arguments that `filter_options` adds."""


def filter_options(function: Function) -> Function:
    """Let a command take the options of a filter, beside `--state`."""
    for names, settings in reversed(_OPTIONS):
        function = click.option(*names, **settings)(function)
    return function


def take_filter(given: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments that are a filter's out of a command's arguments."""
    return {name: given.pop(name) for name in FILTERS}


def make_filter(among: tuple[str, ...], given: dict[str, Any]) -> Filter:
    """Return the filter that the options say.

    :param among: the labels of the states; all if there's none
    """
    from retryspool import Filter

    least, most = given["attempts"] or (None, None)
    smallest, largest = given["size"] or (None, None)
    return Filter(
        states=tuple(states(among)) if among else (),
        id_pattern=given["id_pattern"] or "",
        routes=given["route"],
        headers=dict(given["header"]),
        error=given["error"] or "",
        error_regex=given["error_regex"] or "",
        created_before=given["older_than"],
        created_since=given["newer_than"],
        updated_before=given["untouched"],
        updated_since=given["touched"],
        due_before=given["due_before"],
        due_since=given["due_after"],
        min_attempts=least,
        max_attempts=most,
        min_size=smallest,
        max_size=largest,
    )
