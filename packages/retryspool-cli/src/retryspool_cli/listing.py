"""A table of messages, one a row, as `ls` and a dry run show them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from retryspool_cli.output import STATE_STYLES, new_table, printable
from retryspool_cli.values import ago, duration_text, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from retryspool import MessageMetadata

__all__ = ["message_table", "reason"]


def message_table(records: Iterable[MessageMetadata]) -> Table:
    """Return a table of messages."""
    from rich.text import Text

    from retryspool.model import utc_now

    table = new_table("ID", "STATE", "TRIES", "AGE", "DUE", "SIZE", "ROUTE", "LAST ERROR", right=("TRIES", "SIZE"))
    for column in table.columns[-2:]:
        column.no_wrap = False  # these give way on a narrow terminal; an id is there to be copied
    now = utc_now()
    for record in records:
        label = record.state.label
        table.add_row(
            printable(record.id),
            Text(label, style=STATE_STYLES[label]),
            f"{record.attempts}/{record.max_attempts}",
            duration_text(now - record.created, short=True),
            _due(record, now),
            size_text(record.size),
            Text(printable(record.route), no_wrap=True, overflow="ellipsis"),
            Text(printable(reason(record)), no_wrap=True, overflow="ellipsis"),
        )
    return table


def reason(record: MessageMetadata) -> str:
    """Return the last error, without what its class adds to what the state says already."""
    return record.last_error.removeprefix("RetryableError: ").removeprefix("PermanentError: ")


def _due(record: MessageMetadata, now: datetime) -> str:
    from retryspool import NEVER, State

    if record.state is State.ACTIVE:
        return f"lease {ago(record.lease_expires, now, short=True)}" if record.lease_owner else "no lease"
    if record.state in {State.HOLD, State.BOUNCE, State.ARCHIVED} or record.next_retry == NEVER:
        return "-"
    return ago(record.next_retry, now, short=True) if record.next_retry > now else "now"
