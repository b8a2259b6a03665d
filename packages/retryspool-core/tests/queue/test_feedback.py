"""What a destination's answers do to how much it's given."""

from __future__ import annotations

import random

import pytest

from retryspool import RouteOptions
from retryspool.queue.feedback import Feedback

STEADY = RouteOptions(concurrency=20, initial_concurrency=5, rest_s=60, rest_factor=2, rest_cap_s=200, rest_jitter=0)


def rest(feedback: Feedback, now: float = 0) -> float:
    """Fail until it rests; return for how long."""
    while not feedback.failed("down", now):
        pass
    return feedback.resting_until - now


def test_it_begins_with_the_initial_concurrency_but_never_above_the_limit() -> None:
    assert 5 == Feedback(STEADY).window
    assert 2 == Feedback(RouteOptions(concurrency=2)).window


def test_each_success_allows_one_more_up_to_the_limit() -> None:
    feedback = Feedback(STEADY)

    windows = list[int]()
    for _ in range(20):
        feedback.answered()
        windows.append(feedback.window)

    assert [*range(6, 21), 20, 20, 20, 20, 20] == windows


def test_each_failure_allows_one_less_and_then_it_takes_a_whole_window_to_gain_one() -> None:
    feedback = Feedback(STEADY)
    feedback.failed("no", 0)
    feedback.failed("no", 0)
    assert 3 == feedback.window

    windows = list[int]()
    for _ in range(7):
        feedback.answered()
        windows.append(feedback.window)

    assert [3, 3, 4, 4, 4, 4, 5] == windows


def test_the_window_settles_at_what_the_destination_takes() -> None:
    """A destination that takes seven at once, and refuses what is more."""
    feedback = Feedback(STEADY)
    windows = list[int]()
    refused = 0
    for _ in range(200):
        at_once = feedback.window
        for number in range(at_once):
            if number < 7:
                feedback.answered()
            else:
                refused += 1
                feedback.failed("too many", 0)
        windows.append(feedback.window)
    assert {6, 7, 8} >= set(windows[10:])
    assert refused < 0.1 * sum(windows)


def test_failures_in_a_row_count_as_death_by_the_cohort() -> None:
    feedback = Feedback(STEADY)

    assert [False] * 4 + [True] == [feedback.failed("down", 0) for _ in range(5)]
    assert "resting" == feedback.state


def test_a_wide_window_takes_as_many_failures_as_ran_at_once() -> None:
    feedback = Feedback(STEADY)
    for _ in range(15):
        feedback.answered()
    assert 20 == feedback.window

    assert [False] * 19 + [True] == [feedback.failed("down", 0) for _ in range(20)]


def test_a_narrow_window_takes_five_all_the_same() -> None:
    feedback = Feedback(RouteOptions(concurrency=1))

    assert [False] * 4 + [True] == [feedback.failed("down", 0) for _ in range(5)]


@pytest.mark.parametrize(("dead_after", "failures"), [(0.2, 1), (2, 10)])
def test_how_many_cohorts_is_an_option(dead_after: float, failures: int) -> None:
    feedback = Feedback(RouteOptions(dead_after=dead_after))

    assert [False] * (failures - 1) + [True] == [feedback.failed("down", 0) for _ in range(failures)]


def test_an_answer_in_between_begins_the_count_anew() -> None:
    feedback = Feedback(STEADY)
    for _ in range(50):
        for _ in range(4):
            assert not feedback.failed("now and then", 0)
        feedback.answered()
    assert "open" == feedback.state


def test_a_probe_decides_and_rests_grow_up_to_their_cap_until_one_succeeds() -> None:
    feedback = Feedback(STEADY)

    lengths = [rest(feedback)]
    for now in range(1000, 5000, 1000):
        feedback.probe()
        assert 1 == feedback.window
        assert feedback.failed("still", now)
        lengths.append(feedback.resting_until - now)
    feedback.probe()
    assert feedback.answered()
    assert ("open", 5, "") == (feedback.state, feedback.window, feedback.last_error)

    assert [60, 120, 200, 200, 200] == lengths
    assert 60 == rest(feedback, 9000)


def test_rests_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", random.Random(9).uniform)
    options = RouteOptions(rest_s=100, rest_jitter=0.2)

    lengths = [rest(Feedback(options)) for _ in range(300)]

    assert 80 <= min(lengths) < 85
    assert 115 < max(lengths) <= 120


def test_what_began_before_the_rest_tells_nothing_of_the_time_after() -> None:
    feedback = Feedback(STEADY)
    rest(feedback)

    assert not feedback.answered()
    assert not feedback.failed("late", 30)
    assert ("resting", 60) == (feedback.state, feedback.resting_until)


def test_a_refusal_rests_at_once_for_as_long_as_was_asked_for() -> None:
    feedback = Feedback(STEADY)

    assert feedback.refused("429", 100, 30)
    assert ("resting", 130) == (feedback.state, feedback.resting_until)
    assert not feedback.refused("429", 101, 60)
    assert 161 == feedback.resting_until
    assert not feedback.refused("429", 102, 1)
    assert 161 == feedback.resting_until
    feedback.probe()
    assert feedback.refused("gone", 200, None)
    assert 260 == feedback.resting_until  # its own rests haven't begun to grow before


def test_nobody_can_ask_for_more_than_a_day() -> None:
    feedback = Feedback(STEADY)

    feedback.refused("see you next year", 0, 365 * 86_400)

    assert 86_400 == feedback.resting_until
