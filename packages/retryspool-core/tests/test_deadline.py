"""The limit on the time that calls may take."""

from __future__ import annotations

import math
import threading

import pytest

from retryspool import deadline
from retryspool.deadline import check_deadline, remaining
from retryspool.errors import DeadlineExceededError, InvalidOptionError


def test_without_a_deadline_there_is_no_limit() -> None:
    check_deadline()
    assert remaining() is None


def test_a_deadline_leaves_what_was_given() -> None:
    with deadline(60):
        check_deadline()
        left = remaining()
    assert left is not None
    assert 50 < left <= 60
    assert remaining() is None


def test_a_deadline_that_has_passed_raises() -> None:
    with deadline(0):
        assert 0 == remaining()
        with pytest.raises(DeadlineExceededError, match="the deadline has passed; nothing was changed"):
            check_deadline()
    check_deadline()


def test_what_it_raises_is_a_timeout() -> None:
    with deadline(0), pytest.raises(TimeoutError):
        check_deadline()


@pytest.mark.parametrize(("outer", "inner"), [(60, 1000), (1000, 60), (60, math.inf), (math.inf, 60)])
def test_a_deadline_can_only_be_tightened(outer: float, inner: float) -> None:
    with deadline(outer), deadline(inner):
        assert 50 < (remaining() or 0) <= 60


def test_the_outer_deadline_is_back_after_the_inner_one() -> None:
    with deadline(60):
        with deadline(0):
            pass
        check_deadline()


def test_an_error_ends_the_deadline_too() -> None:
    with pytest.raises(KeyError), deadline(0):
        raise KeyError
    check_deadline()


def test_a_deadline_belongs_to_its_thread() -> None:
    seen: list[float | None] = []
    with deadline(0):
        thread = threading.Thread(target=lambda: seen.append(remaining()))
        thread.start()
        thread.join()
    assert [None] == seen


@pytest.mark.parametrize("seconds", [math.inf, 1e300])
def test_a_deadline_for_ever_can_be_waited_for(seconds: float) -> None:
    with deadline(seconds):
        check_deadline()
        assert threading.Lock().acquire(timeout=remaining() or 0)


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, -math.inf])
def test_a_deadline_out_of_range_is_refused(wrong: float) -> None:
    with pytest.raises(InvalidOptionError, match="it must be a number of seconds of at least 0"), deadline(wrong):
        pass
