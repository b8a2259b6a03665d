"""Which limits apply to which destination."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
from queues import NewQueue

from retryspool import InvalidOptionError, Queue, RouteOptions
from retryspool.queue.routes import RouteTable

RANGES = {
    "concurrency": (1, 10_000),
    "initial_concurrency": (1, 10_000),
    "dead_after": (0.1, 1000),
    "rest_s": (0.1, 86_400),
    "rest_factor": (1, 100),
    "rest_cap_s": (0.1, 86_400),
    "rest_jitter": (0, 1),
}


def test_the_defaults_are_those_that_are_documented() -> None:
    options = RouteOptions()

    assert (20, 5, 1) == (options.concurrency, options.initial_concurrency, options.dead_after)
    assert (60, 2, 3600, 0.1, None) == (
        options.rest_s,
        options.rest_factor,
        options.rest_cap_s,
        options.rest_jitter,
        options.rate,
    )


@pytest.mark.parametrize("name", RANGES)
def test_an_error_names_the_option_the_value_and_the_range(name: str) -> None:
    lowest, highest = RANGES[name]
    for value in (lowest, highest):
        assert value == getattr(RouteOptions(**{name: value}), name)  # type: ignore[arg-type]
    wrong: list[Any] = [lowest - 0.05, highest + 1, -1, math.nan, math.inf, "7", True, None]
    for value in wrong:
        with pytest.raises(InvalidOptionError) as caught:
            RouteOptions(**{name: value})
        assert f"{name} is {value!r}" in str(caught.value)
        assert f"between {lowest:,} and {highest:,}" in str(caught.value)


def test_no_option_is_missing_a_range() -> None:
    assert {field.name for field in fields(RouteOptions)} == {*RANGES, "rate"}
    with pytest.raises(InvalidOptionError, match="rate is 'often'"):
        RouteOptions(rate="often")


def test_an_exact_route_comes_before_patterns_and_these_come_in_order() -> None:
    first, second, third, exact = (RouteOptions(concurrency=number) for number in (1, 2, 3, 4))
    table = RouteTable({"*.example.org": first, "*.org": second, "a.example.org": exact, "[xy]": third})

    assert exact is table.options_for("a.example.org")
    assert first is table.options_for("b.example.org")
    assert second is table.options_for("example.org")
    assert third is table.options_for("x")
    assert RouteOptions() == table.options_for("example.com") == table.options_for("A.EXAMPLE.ORG")


def test_messages_without_a_route_are_only_limited_on_request() -> None:
    nameless = RouteOptions(concurrency=1)

    assert RouteTable({}).options_for("") is None
    assert RouteTable({"*": nameless}).options_for("") is None
    assert nameless is RouteTable({"*": RouteOptions(), "": nameless}).options_for("")


def test_a_queue_refuses_options_of_another_kind_before_it_opens_anything(new_queue: NewQueue) -> None:
    wrong: Any = {"a": {"concurrency": 1}}

    with pytest.raises(InvalidOptionError, match=r"routes\['a'\] is \{'concurrency': 1\}; it must be RouteOptions"):
        Queue(new_queue().spool, routes=wrong)
    with pytest.raises(InvalidOptionError, match=r"routes\['a'\]"):
        Queue.open("/dev/null/nowhere", routes=wrong)
