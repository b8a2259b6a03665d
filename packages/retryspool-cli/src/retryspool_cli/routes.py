"""Limits by destination as they are written on the command line and in `retryspool.toml`.

`rate:10/minute,concurrency:5`: the fields of `retryspool.RouteOptions` and their values, in any order; `rest` and
`rest_cap` are durations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from retryspool_cli.exits import WrongUsageError
from retryspool_cli.values import parse_duration

if TYPE_CHECKING:
    from retryspool import RouteOptions

__all__ = ["named_route", "parse_route", "parse_routes"]


def named_route(text: str) -> tuple[str, str]:
    """Convert an option: a pattern of routes, and what is written of them."""
    pattern, sign, written = text.rpartition("=")
    if not sign or not written:
        msg = f"{text!r} doesn't say what applies to a route, such as example.com=rate:10/minute,concurrency:5"
        raise click.BadParameter(msg)
    return pattern, written


def parse_routes(written: Mapping[str, str]) -> dict[str, RouteOptions]:
    """Return the options by pattern.

    :raises WrongUsageError: one of them isn't right
    """
    return {pattern: parse_route(text, pattern) for pattern, text in written.items()}


def parse_route(text: str, pattern: str) -> RouteOptions:
    """Return the options that a text describes.

    :raises WrongUsageError: it doesn't describe any
    """
    from retryspool import InvalidOptionError, RouteOptions

    try:
        return RouteOptions(**_parse(text))
    except (ValueError, InvalidOptionError) as error:
        msg = f"route {pattern!r} is {text!r}: {error}; write rate:10/minute,concurrency:5"
        raise WrongUsageError(msg) from None


def _parse(text: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for item in text.split(","):
        name, _, value = (part.strip() for part in item.partition(":"))
        field, convert = _KINDS.get(name.replace("-", "_"), ("", str))
        if not field or field in given:
            msg = f"{item.strip()!r} is {'given twice' if field else 'none of ' + ', '.join(_KINDS)}"
            raise ValueError(msg)
        given[field] = convert(value)
    return given


def _seconds(text: str) -> float:
    return parse_duration(text).total_seconds()


_KINDS: dict[str, tuple[str, Any]] = {
    "concurrency": ("concurrency", int),
    "initial_concurrency": ("initial_concurrency", int),
    "rate": ("rate", str),
    "dead_after": ("dead_after", float),
    "rest": ("rest_s", _seconds),
    "rest_factor": ("rest_factor", float),
    "rest_cap": ("rest_cap_s", _seconds),
    "rest_jitter": ("rest_jitter", float),
}
"""What may be written: the field of `RouteOptions`, and how its value is read. A test compares."""
