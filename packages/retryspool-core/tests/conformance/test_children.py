"""The suite's own processes: what they say is heard, and what becomes of them, and of their forks, is told."""

from __future__ import annotations

import operator
import os
import time
from functools import partial

import pytest

from retryspool.conformance.children import children, say
from retryspool.conformance.forking import Forked, fork
from retryspool.errors import MessageNotFoundError


def test_a_child_returns_what_its_function_returns() -> None:
    with children(2) as (one, other):
        assert [7, "a"] == [one.call(operator.add, 3, 4), other.call(str, "a")]
        assert one.pid != other.pid
        assert {one.pid, other.pid}.isdisjoint({os.getpid()})


def test_a_child_says_more_than_it_returns() -> None:
    with children(1) as (child,):
        child.begin(say, "before")

        assert ["before", None] == [child.line(), child.line()]


def test_what_a_function_raises_is_raised_here_and_the_child_goes_on() -> None:
    with children(1) as (child,):
        with pytest.raises(MessageNotFoundError, match="'a'"):
            child.call(partial(exec, "from retryspool.errors import *; raise MessageNotFoundError('a')"))

        assert 4 == child.call(abs, -4)


def test_what_a_killed_child_had_said_is_still_heard_and_then_its_end() -> None:
    with children(1) as (child,):
        child.begin(partial(exec, "from retryspool.conformance.children import say; say(1); say(2); say(3)"))
        assert 1 == child.line()
        assert 2 == child.line()

        unheard = child.kill()

        assert unheard in ([], [3], [3, None])


def test_a_child_is_killed_whatever_it_does() -> None:
    with children(1) as (child,):
        child.begin(time.sleep, 1000)

        assert [] == child.kill()
        with pytest.raises(ProcessLookupError):
            os.kill(child.pid, 0)


def test_a_child_that_dies_is_told_from_one_that_answers() -> None:
    with children(1) as (child,), pytest.raises(EOFError):
        child.call(os._exit, 1)


def test_no_child_is_left() -> None:
    with children(3) as started:
        pids = [child.pid for child in started]

    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


MIXED_UP = partial(str, "mixed up")
REFUSING = partial(exec, "from retryspool.errors import *; raise BackendError('not in a fork')")


@pytest.mark.parametrize(
    ("in_parent", "in_child", "expected"),
    [
        (str, str, Forked("", "")),
        (str, MIXED_UP, Forked("", "mixed up")),
        (MIXED_UP, str, Forked("mixed up", "")),
        (str, REFUSING, Forked("", "BackendError('not in a fork')", refused=True)),
        (str, partial(operator.truediv, 1, 0), Forked("", "ZeroDivisionError: division by zero")),
        (str, partial(os._exit, 0), Forked("", "it died without a word")),
    ],
)
def test_what_both_sides_of_a_fork_came_to_is_told(in_parent: object, in_child: object, expected: Forked) -> None:
    with children(1) as (child,):
        assert expected == child.call(fork, in_parent, in_child)
