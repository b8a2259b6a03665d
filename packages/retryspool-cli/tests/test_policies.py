import pytest

from retryspool import ExponentialRetry, FixedRetry, RetryPolicy, ScheduledRetry
from retryspool_cli.exits import WrongUsageError
from retryspool_cli.policies import parse_policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("fixed:30s", FixedRetry(30)),
        ("fixed:30s,jitter=0", FixedRetry(30, 0)),
        ("schedule:1m,5m,1h", ScheduledRetry((60, 300, 3600))),
        ("exponential:1s", ExponentialRetry(1)),
        ("exponential:1s,3", ExponentialRetry(1, 3)),
        ("exponential:500ms,1.5,2s,jitter=0.5", ExponentialRetry(0.5, 1.5, 2, 0.5)),
    ],
)
def test_a_policy_is_written_in_a_word(text: str, policy: RetryPolicy) -> None:
    assert policy == parse_policy(text)


@pytest.mark.parametrize(
    "text",
    [
        "fixed:",
        "fixed:1s,2s",
        "schedule:",
        "often:1s",
        "exponential:1s,2,3s,4",
        "exponential:1s,x",
        "fixed:1s,jitter=9",
    ],
)
def test_what_is_no_policy_is_an_error_that_shows_how(text: str) -> None:
    with pytest.raises(WrongUsageError, match="write fixed:30s"):
        parse_policy(text, "mine")
