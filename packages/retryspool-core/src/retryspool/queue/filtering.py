"""Which messages are meant: by state, route, headers, age, attempts, error, size or id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase

from retryspool.errors import InvalidOptionError
from retryspool.model import MessageMetadata, State

__all__ = ["Filter", "matches_pattern"]

_TIMES = ("created_before", "created_since", "updated_before", "updated_since", "due_before", "due_since")
_NUMBERS = ("min_attempts", "max_attempts", "min_size", "max_size")


def matches_pattern(text: str, pattern: str) -> bool:
    """Tell whether a text is what a pattern says, in which `*`, `?` and `[abc]` stand for what they do in a shell.

    A text is also matched by itself, whatever stands in it: `[::1]` is a route.
    """
    return text == pattern or fnmatchcase(text, pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which messages are meant: those that all of it holds for. An empty one means all.

    Patterns are those of a shell (`*`, `?`, `[abc]`), and are matched against the whole text, upper and lower case
    being different.

    :raises InvalidOptionError: a time has no zone, a number is below 0, or the regular expression isn't one
    """

    states: tuple[State, ...] = ()
    """Any of these; any at all if empty."""
    id_pattern: str = ""
    routes: tuple[str, ...] = ()
    """Any of these patterns; `""` is that of messages without a route."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """All of these, each a header's name with a pattern for its value; `*` says that it's there."""
    error: str = ""
    """What the last error contains, upper and lower case being the same."""
    error_regex: str = ""
    """A regular expression that is found somewhere in the last error."""
    created_before: datetime | None = None
    created_since: datetime | None = None
    updated_before: datetime | None = None
    """When the record was last written: claimed, deferred, bounced, changed by hand."""
    updated_since: datetime | None = None
    due_before: datetime | None = None
    due_since: datetime | None = None
    min_attempts: int | None = None
    max_attempts: int | None = None
    min_size: int | None = None
    """The payload's, in bytes."""
    max_size: int | None = None

    def __post_init__(self) -> None:
        for name in _TIMES:
            time: datetime | None = getattr(self, name)
            if time is not None and time.utcoffset() is None:
                raise InvalidOptionError(f"{name} has no time zone; use an aware datetime, such as datetime.now(UTC)")
        for name in _NUMBERS:
            number: int | None = getattr(self, name)
            if number is not None and number < 0:
                raise InvalidOptionError(f"{name} is {number}; it must be at least 0")
        try:
            re.compile(self.error_regex)
        except re.error as error:
            msg = f"error_regex is {self.error_regex!r}, which is no regular expression: {error}"
            raise InvalidOptionError(msg) from error

    @property
    def is_empty(self) -> bool:
        """Whether it means all messages there are."""
        return self == Filter()

    def matches(self, record: MessageMetadata) -> bool:
        """Tell whether a message is meant."""
        return (
            (not self.states or record.state in self.states)
            and (not self.id_pattern or matches_pattern(record.id, self.id_pattern))
            and (not self.routes or any(matches_pattern(record.route, pattern) for pattern in self.routes))
            and _between(record.created, self.created_since, self.created_before)
            and _between(record.updated, self.updated_since, self.updated_before)
            and _between(record.next_retry, self.due_since, self.due_before)
            and _within(record.attempts, self.min_attempts, self.max_attempts)
            and _within(record.size, self.min_size, self.max_size)
            and self._matches_texts(record)
        )

    def _matches_texts(self, record: MessageMetadata) -> bool:
        if self.error and self.error.casefold() not in record.last_error.casefold():
            return False
        if self.error_regex and not re.search(self.error_regex, record.last_error):
            return False
        return all(
            name in record.headers and matches_pattern(record.headers[name], pattern)
            for name, pattern in self.headers.items()
        )


def _between(time: datetime, since: datetime | None, before: datetime | None) -> bool:
    return (since is None or time >= since) and (before is None or time < before)


def _within(number: int, least: int | None, most: int | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)
