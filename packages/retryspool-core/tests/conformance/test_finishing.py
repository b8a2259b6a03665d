"""Calls that must come to an end."""

from __future__ import annotations

import threading

import pytest

from retryspool.conformance.finishing import Running, finish
from retryspool.deadline import deadline, remaining


def test_what_a_call_returns_is_returned_and_what_it_raises_is_raised() -> None:
    def fail() -> None:
        raise LookupError("no")

    assert 7 == finish(lambda: 7)
    with pytest.raises(LookupError, match="no"):
        finish(fail)


def test_a_call_that_hangs_fails() -> None:
    released = threading.Event()
    try:
        with pytest.raises(AssertionError, match=r"hasn't come to an end within 0\.05 s"):
            finish(released.wait, 0.05)
    finally:
        released.set()


def test_a_call_has_the_deadline_of_its_caller() -> None:
    with deadline(60):
        left = finish(remaining)

    assert left is not None
    assert 0 < left <= 60


def test_a_call_under_way_is_over_when_it_has_returned() -> None:
    released = threading.Event()
    running = Running(released.wait)
    assert not running.is_over

    released.set()

    assert running.result()
    assert running.is_over
