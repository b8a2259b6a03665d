"""Options in sections, for a command that has many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["SectionedCommand", "section"]

Function = TypeVar("Function", bound=Callable[..., object])


class SectionedCommand(click.Command):
    """A command whose help shows its options by section; those that are in none come last."""

    def __init__(self, name: str | None, *, callback: Callable[..., Any] | None = None, **settings: Any) -> None:
        super().__init__(name, callback=callback, **settings)
        self._sections: dict[str, set[str]] = getattr(callback, "__sections__", {})

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        left = {param.name: record for param in options if (record := param.get_help_record(ctx))}
        for title, names in self._sections.items():
            rows = [record for name, record in left.items() if name in names]
            left = {name: record for name, record in left.items() if name not in names}
            with formatter.section(title):
                formatter.write_dl(rows)
        with formatter.section("Options"):
            formatter.write_dl(list(left.values()))


def section(title: str, *options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Add options to a `SectionedCommand` as a section of their own."""

    def decorate(function: Function) -> Function:
        before = _names(function)
        for option in reversed(options):
            function = option(function)
        mine = _names(function) - before
        sections: dict[str, set[str]] = getattr(function, "__sections__", {})
        function.__sections__ = {title: mine, **sections}  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return decorate


def _names(function: Callable[..., object]) -> set[str]:
    params: list[click.Parameter] = getattr(function, "__click_params__", [])
    return {param.name for param in params if param.name}
