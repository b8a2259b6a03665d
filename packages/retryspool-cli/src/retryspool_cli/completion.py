"""What the shell completes, beside options and states."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retryspool_cli.settings import Given, load_settings, open_queue

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["message_ids"]

_AT_MOST = 50
"""How many ids of each state are offered: whoever has more, types more."""


def message_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the latest ids of each state. Nothing, where the spool can't be opened: a completion has nobody to tell."""
    del param
    from click.shell_completion import CompletionItem

    from retryspool import ListOptions, State

    given = ctx.find_object(Given) or Given()
    for context in (ctx, ctx.parent):  # completion runs no callbacks: the options stand where they were parsed
        if context is not None:
            for name in ("spool", "meta", "data", "config", "middleware"):
                setattr(given, name, context.params.get(name) or getattr(given, name))
    found: list[CompletionItem] = []
    try:
        with open_queue(load_settings(given, os.environ, Path())) as queue:
            for state in State:
                page = queue.list(state, ListOptions(limit=_AT_MOST, descending=True))
                found += [CompletionItem(i, help=state.label) for i in page.message_ids if i.startswith(incomplete)]
    except Exception:  # noqa: BLE001 -- whatever it is, a traceback in the middle of a command line helps nobody
        return found
    return found
