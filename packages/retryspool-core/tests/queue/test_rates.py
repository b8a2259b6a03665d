from __future__ import annotations

import random

import pytest

from retryspool import InvalidOptionError
from retryspool.queue.rates import Pace, Rate


@pytest.mark.parametrize(
    ("text", "count", "per_s"),
    [
        ("10/minute", 10, 60),
        ("5/second", 5, 1),
        ("1000/day", 1000, 86_400),
        ("7/hour", 7, 3600),
        ("1/s", 1, 1),
        ("100/30s", 100, 30),
        ("2/15m", 2, 900),
        ("3/2h", 3, 7200),
        ("100000/1d", 100_000, 86_400),
    ],
)
def test_a_rate_is_a_number_and_a_span(text: str, count: int, per_s: int) -> None:
    assert Rate(count, per_s) == Rate.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "/s",
        "10/",
        "10/week",
        "10/30",
        "10/30minute",
        "0/s",
        "-1/s",
        "1.5/s",
        "100001/s",
        "1/2d",
        "1/0s",
        "9 /s",
    ],
)
def test_what_is_no_rate_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidOptionError, match=r"rate is .*; it must be"):
        Rate.parse(text)


def test_no_span_holds_more_starts_than_the_rate_allows_and_none_waits_without_need() -> None:
    pace = Pace(Rate(3, 10))
    chance = random.Random(7)
    now, starts = 0.0, list[float]()
    for _ in range(500):
        now += chance.choice([0.0, 0.3, 2.7, 11.0])
        while pace.left(now):
            pace.started(now)
            starts.append(now)
        assert sum(now - 10 < start <= now for start in starts) == 3  # as many as are allowed, at each moment
    assert all(later - earlier >= 10 for earlier, later in zip(starts, starts[3:], strict=False))


def test_the_next_start_is_allowed_at_the_very_time_that_was_told() -> None:
    chance = random.Random(8)
    for _ in range(1000):
        pace = Pace(Rate(1, 7))
        now = chance.uniform(0, 1e6)
        pace.started(now)

        assert 0 == pace.left(now)
        assert 1 == pace.left(pace.next_at())
        assert pace.is_idle
