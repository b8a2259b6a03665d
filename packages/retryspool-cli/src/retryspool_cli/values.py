"""What options may be given as: durations, times, headers, states, sizes; and how they are shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from retryspool import State

__all__ = [
    "STATES",
    "STATE_CHOICE",
    "ago",
    "at_least_at_most",
    "duration",
    "duration_text",
    "header",
    "parse_duration",
    "past",
    "size_text",
    "sizes",
    "states",
    "time",
]

STATES = ("incoming", "active", "deferred", "hold", "bounce", "archived")
"""The labels of `retryspool.State`, here so that --help and completion need no import. A test compares."""
STATE_CHOICE = click.Choice(STATES, case_sensitive=False)

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Return what `90`, `90s`, `1h30m` or `500ms` say; a number alone is in seconds.

    :raises ValueError: it's no duration
    """
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        seconds = float(text)
    else:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            msg = f"{text!r} is not a duration, such as 90s, 15m, 1h30m or 500ms"
            raise ValueError(msg)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        msg = f"{text!r} is too long"
        raise ValueError(msg) from None


def duration(text: str) -> timedelta:
    """Convert an option: a duration."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def time(text: str) -> datetime:
    """Convert an option: a time, or how far ahead one lies."""
    return _moment(text.removeprefix("+"), 1)


def past(text: str) -> datetime:
    """Convert an option: a time, or how long ago one was."""
    return _moment(text, -1)


def _moment(text: str, direction: int) -> datetime:
    """Return a time: ISO 8601 (local time where it names no zone), or a duration from now, as an aware `datetime`."""
    try:
        return datetime.now(UTC) + direction * parse_duration(text)
    except OverflowError:
        msg = f"{text!r} is too far away"
        raise click.BadParameter(msg) from None
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        msg = f"{text!r} is neither a duration such as 15m nor a time such as 2030-01-31T08:00"
        raise click.BadParameter(msg) from None


def header(text: str) -> tuple[str, str]:
    """Convert an option: a header, `name=value`."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        msg = f"{text!r} is not a header, such as to=https://example.com"
        raise click.BadParameter(msg)
    return name.strip(), value


def at_least_at_most(text: str) -> tuple[int | None, int | None]:
    """Convert an option: a range of numbers, `3`, `3..`, `..5` or `3..5`, as its ends, which belong to it."""
    return _ends(text, _number, "3, 3.., ..5 or 3..5")


def sizes(text: str) -> tuple[int | None, int | None]:
    """Convert an option: a range of sizes in bytes, such as `1M..` or `..64K`, as its ends, which belong to it."""
    return _ends(text, _bytes, "1000, 1M.., ..64K or 1K..1M")


def _ends(text: str, convert: Callable[[str], int], such_as: str) -> tuple[int | None, int | None]:
    first, dots, last = text.partition("..")
    try:
        least = convert(first) if first else None
        most = convert(last) if last else None
        if first and not dots:
            return least, least
    except (KeyError, ValueError):
        least = most = None
    if (least is None and most is None) or (least is not None and most is not None and least > most):
        msg = f"{text!r} is not a range, such as {such_as}"
        raise click.BadParameter(msg)
    return least, most


def _number(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise ValueError(text)
    return int(text)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMGT]?)(?:i?B)?", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise ValueError(text)
    return int(match[1]) * _BYTES[match[2].upper()]


def states(labels: Sequence[str]) -> list[State]:
    """Return the states that these labels name, each once; all of them for none."""
    from retryspool import State

    return [State.from_label(label) for label in dict.fromkeys(labels or STATES)]


def size_text(size: int) -> str:
    """Return a number of bytes as people read it."""
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004 -- a kibibyte
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def duration_text(duration: timedelta, *, short: bool = False) -> str:
    """Return a duration as people read it: its two largest units, or the largest alone."""
    seconds = abs(duration.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:  # noqa: PLR2004 -- then a tenth matters
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004 -- a minute
        return f"{whole} s"
    for size, unit, smaller, smaller_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {smaller_unit}" if rest and not short else f"{whole // size} {unit}"
    return ""


def ago(moment: datetime, now: datetime, *, short: bool = False) -> str:
    """Return how far away a time is: `2 min ago`, `in 15 min`."""
    if moment > now:
        return f"in {duration_text(moment - now, short=short)}"
    return f"{duration_text(now - moment, short=short)} ago"
