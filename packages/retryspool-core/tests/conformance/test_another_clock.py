"""Processes in which it is another time."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest

from retryspool.conformance.another_clock import call_by_another_clock
from retryspool.model import MessageMetadata, utc_now

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_it_is_another_time_there_by_every_way_to_ask(ahead: timedelta) -> None:
    def shift(there: object) -> timedelta:
        assert isinstance(there, datetime)
        return there - utc_now()

    assert abs(shift(call_by_another_clock(ahead, utc_now)) - ahead) < MINUTE
    there = call_by_another_clock(ahead, time.time)
    assert isinstance(there, float)
    assert abs(timedelta(seconds=there - time.time()) - ahead) < MINUTE


def test_times_go_there_and_back_as_they_are() -> None:
    now = utc_now()

    there_and_back = call_by_another_clock(HOUR, MessageMetadata, "a", *[MessageMetadata("a").state, 1, 2, now])

    assert MessageMetadata("a", attempts=1, max_attempts=2, next_retry=now) == there_and_back
    assert isinstance(there_and_back, MessageMetadata)
    assert datetime is type(there_and_back.next_retry)


def test_what_is_raised_there_is_raised_here() -> None:
    with pytest.raises(ValueError, match="'x'"):
        call_by_another_clock(HOUR, int, "x")
