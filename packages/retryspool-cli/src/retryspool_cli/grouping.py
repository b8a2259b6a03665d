"""Messages counted by what they have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.listing import reason
from retryspool_cli.output import new_table, note, print_json, print_table, printable
from retryspool_cli.values import ago

if TYPE_CHECKING:
    from retryspool import MessageMetadata

__all__ = ["MOST_GROUPS", "OTHERS", "Group", "GroupJson", "error_words", "group", "key_of", "print_groups"]

MOST_GROUPS = 10_000
"""So many groups are told apart, so that memory doesn't grow with the spool; what comes then is `(others)`."""

OTHERS = "(others)"
"""The group of all that come when there are so many."""
_DIFFERS = re.compile(
    r"""
      '[^'\n]*' | "[^"\n]*" | <[^<>\n]*>                  # what is in quotes or brackets
    | \b[\w.+=-]+@[\w.-]+                                 # an address
    | \b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F-]{22}\b  # a UUID
    | \b0x[0-9a-fA-F]+\b | \b(?=\w*\d)[0-9a-fA-F]{8,}\b | \b\d{5,}\b
    """,
    re.VERBOSE,
)


class GroupJson(TypedDict):
    """A group in `ls --by --json`."""

    by: str
    value: str
    count: int
    oldest: str | None
    newest: str | None
    example: str


@dataclass(slots=True)
class Group:
    """Messages that have something in common."""

    count: int
    oldest: datetime
    newest: datetime
    example: str
    """The id of one of them."""

    def add(self, record: MessageMetadata) -> None:
        """Add a message."""
        self.count += 1
        self.oldest = min(self.oldest, record.created)
        self.newest = max(self.newest, record.created)


def error_words(record: MessageMetadata) -> str:
    """Return a message's last error without what differs from one message to the next: addresses, ids, long numbers."""
    return _DIFFERS.sub("…", reason(record))


def key_of(by: str) -> Callable[[MessageMetadata], str]:
    """Return what tells the group of a message.

    :raises WrongUsageError: there's nothing of that name to group by
    """
    keys: dict[str, Callable[[MessageMetadata], str]] = {
        "error": error_words,
        "route": lambda record: record.route,
        "state": lambda record: record.state.label,
        "policy": lambda record: record.retry_policy_name,
    }
    if by in keys:
        return keys[by]
    kind, _, name = by.partition(":")
    if kind == "header" and name:
        return lambda record: record.headers.get(name, "")
    msg = f"--by {by}: there are {', '.join(keys)} and header:NAME"
    raise WrongUsageError(msg)


def group(records: Iterable[MessageMetadata], by: str) -> dict[str, Group]:
    """Return messages in groups.

    :raises WrongUsageError: there's nothing of that name to group by
    """
    key = key_of(by)
    groups: dict[str, Group] = {}
    for record in records:
        value = key(record)
        if value not in groups and len(groups) >= MOST_GROUPS:
            value = OTHERS
        if value in groups:
            groups[value].add(record)
        else:
            groups[value] = Group(1, record.created, record.created, record.id)
    return groups


def print_groups(records: Iterable[MessageMetadata], by: str, *, limit: int, as_json: bool) -> None:
    """Print the groups, the largest first.

    :param limit: how many; 0 for all
    """
    from retryspool.model import utc_now
    from retryspool_cli.records import time_json

    found = sorted(group(records, by).items(), key=lambda item: (-item[1].count, item[0]))
    shown = found[:limit] if limit else found
    if as_json:
        for value, each in shown:
            document: GroupJson = {
                "by": by,
                "value": value,
                "count": each.count,
                "oldest": time_json(each.oldest),
                "newest": time_json(each.newest),
                "example": each.example,
            }
            print_json(document)
        return
    now = utc_now()
    title = by.removeprefix("header:").upper()
    table = new_table("MESSAGES", "OLDEST", "NEWEST", title, right=("MESSAGES",), wrap=(title,))
    for value, each in shown:
        ages = (ago(moment, now, short=True) for moment in (each.oldest, each.newest))
        table.add_row(f"{each.count:,}", *ages, printable(value) or "-")
    print_table(table)
    if len(shown) < len(found):
        note(f"{len(shown)} of {len(found)} groups; --limit 0 lists all")
