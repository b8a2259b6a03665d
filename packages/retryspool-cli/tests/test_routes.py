from __future__ import annotations

from dataclasses import fields

import pytest

from retryspool import RouteOptions
from retryspool_cli.exits import WrongUsageError
from retryspool_cli.routes import _KINDS, named_route, parse_route


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("rate:10/minute,concurrency:5", RouteOptions(rate="10/minute", concurrency=5)),
        (" concurrency : 5 , rate:100/30s", RouteOptions(rate="100/30s", concurrency=5)),
        (
            "initial_concurrency:1,dead-after:2.5,rest:90s,rest-factor:1.5,rest_cap:1h30m,rest_jitter:0",
            RouteOptions(
                initial_concurrency=1, dead_after=2.5, rest_s=90, rest_factor=1.5, rest_cap_s=5400, rest_jitter=0
            ),
        ),
    ],
)
def test_limits_are_written_in_a_line(text: str, options: RouteOptions) -> None:
    assert options == parse_route(text, "a")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is none of concurrency, "),
        ("fast", "'fast' is none of"),
        ("rate", "rate is ''"),
        ("concurrency:many", "invalid literal"),
        ("concurrency:0", "concurrency is 0; it must be an integer between 1 and 10,000"),
        ("rate:1/s,rate:2/s", "'rate:2/s' is given twice"),
        ("rest:soon", "'soon' is not a duration"),
    ],
)
def test_what_is_no_limit_is_an_error_that_shows_how(text: str, why: str) -> None:
    with pytest.raises(WrongUsageError, match="write rate:10/minute,concurrency:5") as caught:
        parse_route(text, "*.example.org")

    assert f"route '*.example.org' is {text!r}: {why}" in str(caught.value)


def test_a_pattern_may_be_anything_even_empty() -> None:
    assert ("a=b", "rate:1/s") == named_route("a=b=rate:1/s")
    assert ("", "rate:1/s") == named_route("=rate:1/s")


def test_every_limit_can_be_written() -> None:
    assert {field.name for field in fields(RouteOptions)} == {name for name, _ in _KINDS.values()}
