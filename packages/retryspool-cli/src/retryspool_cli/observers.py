"""Observers that `--observer` or the settings name: `otel`, or another that is installed, or `module:callable`.

A distribution offers one by an entry point in the group `retryspool.observers`: its name, and a callable without
arguments, such as a class, that returns a `retryspool.Observer`. Unlike a backend's it's imported when it's asked for
only: what measures and traces is slow to import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeVar, cast

import click

from retryspool_cli.exits import WrongUsageError

if TYPE_CHECKING:
    from retryspool import Observer, Queue

__all__ = ["add_observers", "installed_observers", "make_observers", "observer_option"]

_GROUP = "retryspool.observers"
_OURS = {"otel": "'retryspool-otel[otlp]'"}
"""What an error about an unknown name suggests to install."""

Function = TypeVar("Function", bound=Callable[..., object])


def observer_option(function: Function) -> Function:
    """Let a command take observers."""
    return click.option(
        "--observer",
        "observers",
        multiple=True,
        metavar="NAME",
        help="Tell otel (OpenTelemetry) of each message, or another that is installed, or MODULE:NAME. Also "
        "RETRYSPOOL_OBSERVERS.",
    )(function)


def installed_observers() -> list[EntryPoint]:
    """Return what is installed under a name."""
    return sorted(entry_points(group=_GROUP), key=lambda entry_point: entry_point.name)


def make_observers(names: Iterable[str]) -> Sequence[Observer]:
    """Make the observers that are named; before a spool is opened, so that what is missing shows first.

    :raises WrongUsageError: there's none of a name, or it lacks what it needs
    """
    return [_make(name) for name in names]


def add_observers(queue: Queue, observers: Iterable[Observer]) -> None:
    """Let a queue tell them of its messages."""
    for observer in observers:
        queue.add_observer(observer)


def _make(name: str) -> Observer:
    from retryspool import Observer, RetrySpoolError

    make = _find(name)
    if not callable(make):
        msg = f"observer {name!r}: it can't be called"
        raise WrongUsageError(msg)
    try:
        observer = make()
    except RetrySpoolError as error:
        msg = f"observer {name!r}: {error}"
        raise WrongUsageError(msg) from error
    if not isinstance(observer, Observer):
        msg = f"observer {name!r}: it makes {observer!r}, which isn't a retryspool.Observer"
        raise WrongUsageError(msg)
    return observer


def _find(name: str) -> object:
    if ":" in name:
        from retryspool_cli.handlers.function import import_named

        return import_named("observer", name)
    found = [entry_point for entry_point in installed_observers() if entry_point.name == name]
    if len(found) == 1:
        return _load(found[0])
    if found:
        who = " and ".join(sorted(_distribution(entry_point) for entry_point in found))
        msg = f"observer {name!r} is offered by both {who}; uninstall one"
        raise WrongUsageError(msg)
    there = ", ".join(entry_point.name for entry_point in installed_observers()) or "none"
    msg = f"observer {name!r}: there is none of this name; installed: {there}"
    if name in _OURS:
        msg += f". To add it: pip install {_OURS[name]}"
    raise WrongUsageError(msg)


def _load(entry_point: EntryPoint) -> object:
    try:
        return cast("object", entry_point.load())
    except ImportError as error:
        msg = f"observer {entry_point.name!r}: {_distribution(entry_point)} can't be imported: {error}"
        raise WrongUsageError(msg) from error


def _distribution(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else "an unknown distribution"
