from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retryspool import ExponentialRetry, FixedRetry, InvalidOptionError, RetryPolicy, ScheduledRetry
from retryspool.queue import DEFAULT_RETRY
from retryspool.queue.policy import Policies

HOUR = 3600.0


def seconds(policy: RetryPolicy, attempts: int) -> list[float]:
    return [policy.delay(attempt).total_seconds() for attempt in range(1, attempts + 1)]


def test_the_default_schedule_is_that_of_the_go_system() -> None:
    exact = ScheduledRetry(DEFAULT_RETRY.intervals_s, jitter=0)

    hours = [0.25, 0.5, 1, 2, 4, 8, 16, 24, 24, 24]
    assert hours == [each / HOUR for each in seconds(exact, 10)]


def test_a_fixed_policy_waits_as_long_after_each_failure() -> None:
    assert [60, 60, 60] == seconds(FixedRetry(60, jitter=0), 3)


def test_an_exponential_policy_grows_up_to_its_cap() -> None:
    assert [10, 30, 90, 100, 100] == seconds(ExponentialRetry(10, 3, 100, jitter=0), 5)


def test_an_exponential_policy_bears_the_largest_number_of_attempts() -> None:
    assert 3600 == ExponentialRetry(1, 1000, 3600, jitter=0).delay(1000).total_seconds()


@pytest.mark.parametrize("policy", [FixedRetry(100), ExponentialRetry(100, 1), ScheduledRetry((100,)), DEFAULT_RETRY])
def test_jitter_is_on_by_default(policy: RetryPolicy) -> None:
    delays = {policy.delay(1) for _ in range(50)}

    assert len(delays) > 40


@given(
    st.integers(min_value=-5, max_value=2000),
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0, max_value=1),
    st.floats(min_value=1, max_value=10),
)
def test_a_delay_is_within_its_jitter(attempt: int, base_s: float, jitter: float, factor: float) -> None:
    cap_s = 1e6
    for policy in (FixedRetry(base_s, jitter), ScheduledRetry((base_s,), jitter)):
        delay = policy.delay(attempt).total_seconds()
        assert base_s * (1 - jitter) - 1e-5 <= delay <= base_s * (1 + jitter) + 1e-5
    grown = ExponentialRetry(base_s, factor, cap_s, jitter).delay(attempt)
    assert timedelta(0) <= grown <= timedelta(seconds=cap_s * (1 + jitter) + 1e-5)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: FixedRetry(-1), "interval_s is -1"),
        (lambda: FixedRetry(float("nan")), "interval_s is nan"),
        (lambda: FixedRetry(1, jitter=2), "jitter is 2"),
        (lambda: ScheduledRetry(()), "intervals_s is empty"),
        (lambda: ScheduledRetry((1, -2)), "intervals_s is -2"),
        (lambda: ExponentialRetry(1, 0.5), "factor is 0.5"),
        (lambda: ExponentialRetry(1, 2, -1), "cap_s is -1"),
    ],
    ids=["negative", "nan", "jitter", "empty", "negative-in-list", "shrinking", "negative-cap"],
)
def test_a_value_outside_its_range_is_refused(make: object, named: str) -> None:
    with pytest.raises(InvalidOptionError, match=named):
        make()  # type: ignore[operator]


def test_a_name_is_looked_up() -> None:
    policies = Policies({"fast": FixedRetry(1, jitter=0), "slow": FixedRetry(9, jitter=0)}, "slow")

    assert [timedelta(seconds=1), timedelta(seconds=9)] == [policies.delay("fast", 1), policies.delay("", 1)]


def test_a_default_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="retry_policy is 'lost'; it must be one of 'exponential', 'fast'"):
        Policies({"fast": FixedRetry(1)}, "lost")


def test_an_unknown_name_falls_back_to_the_default_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    policies = Policies({"slow": FixedRetry(9, jitter=0)}, "slow")

    delays = [policies.delay("lost", attempt) for attempt in (1, 2)]

    assert [timedelta(seconds=9)] * 2 == delays
    assert ["retry policy 'lost' is unknown here: its messages are retried by the default"] == caplog.messages


class _Failing:
    def __init__(self, result: object) -> None:
        self.result = result

    def delay(self, attempt: int) -> timedelta:  # noqa: ARG002 -- it fails for each
        if isinstance(self.result, Exception):
            raise self.result
        return self.result  # type: ignore[return-value] -- this is what's wrong with it


@pytest.mark.parametrize("result", [ValueError("no"), None, 60, "soon"], ids=repr)
def test_a_policy_that_fails_gives_way_to_the_default_schedule(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    policies = Policies({"broken": _Failing(result)}, "broken")

    delay = policies.delay("", 1)

    assert timedelta(seconds=810) <= delay <= timedelta(seconds=990)
    assert [logging.ERROR] == [record.levelno for record in caplog.records]
