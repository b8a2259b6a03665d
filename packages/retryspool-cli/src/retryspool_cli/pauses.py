"""What is paused, as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from retryspool_cli.output import new_table, print_table, printable
from retryspool_cli.values import ago

if TYPE_CHECKING:
    from rich.table import Table

    from retryspool.queue import Pause, Paused

__all__ = ["PauseJson", "PausedJson", "paused_json", "paused_table", "print_paused", "who"]


class PauseJson(TypedDict):
    """One pause: since when, by whom, and why."""

    since: str | None
    by: str
    reason: str


class PausedJson(TypedDict):
    """What is paused: the whole spool, or null, and routes by name."""

    spool: PauseJson | None
    routes: dict[str, PauseJson]


def who() -> str:
    """Return who calls, as others know them: `user@host`."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user that nobody has given a name
        user = "?"
    return f"{user}@{socket.gethostname()}"


def _pause_json(pause: Pause) -> PauseJson:
    from retryspool_cli.records import time_json

    return {"since": time_json(pause.since), "by": pause.by, "reason": pause.reason}


def paused_json(paused: Paused) -> PausedJson:
    """Return what is paused as JSON holds it."""
    return {
        "spool": None if paused.spool is None else _pause_json(paused.spool),
        "routes": {route: _pause_json(pause) for route, pause in sorted(paused.routes.items())},
    }


def paused_table(paused: Paused) -> Table | None:
    """Return what is paused as a table; None if nothing is."""
    from rich.text import Text

    from retryspool import ZERO_TIME
    from retryspool.model import utc_now

    rows = [("the whole spool", paused.spool)] if paused.spool else []
    rows += [(f"route {route or '(none)'}", pause) for route, pause in sorted(paused.routes.items())]
    if not rows:
        return None
    now = utc_now()
    table = new_table("PAUSED", "SINCE", "BY", "REASON", wrap=("REASON",))
    for what, pause in rows:
        since = "-" if pause.since == ZERO_TIME else ago(pause.since, now)
        table.add_row(Text(printable(what), style="magenta"), since, printable(pause.by), printable(pause.reason))
    return table


def print_paused(paused: Paused) -> bool:
    """Print what is paused as a table, if anything is; returns whether it is."""
    table = paused_table(paused)
    if table is not None:
        print_table(table)
    return table is not None
