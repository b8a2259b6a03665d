from __future__ import annotations

import math
from dataclasses import fields

import pytest

from retryspool import InvalidOptionError, QueueOptions
from retryspool.queue import QueueSettings
from retryspool.queue.options import check_range

RANGES = {
    "max_attempts": (1, 1000),
    "priority": (0, 100),
    "concurrency": (1, 10_000),
    "max_active": (1, 100_000),
    "batch_size": (1, 10_000),
    "max_lost_deliveries": (1, 1000),
    "lease_s": (1, 86_400),
    "poll_s": (1, 86_400),
    "unhandled_delay_s": (1, 86_400),
    "prune_interval_s": (1, 86_400),
    "grace_s": (0, 86_400),
    "ageing": (0, 1),
    "retention_s": (1, 36_500 * 86_400),
}


def test_the_defaults_are_those_that_are_documented() -> None:
    options = QueueOptions()

    assert (10, 5, 8) == (options.max_attempts, options.priority, options.concurrency)
    assert ("delete", "keep", None) == (options.on_success, options.on_bounce, options.retention_s)


@pytest.mark.parametrize("name", RANGES)
def test_a_number_may_be_as_small_and_as_large_as_its_range(name: str) -> None:
    for value in RANGES[name]:
        assert value == getattr(QueueOptions(**{name: value}), name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RANGES)
def test_an_error_names_the_option_the_value_and_the_range(name: str) -> None:
    lowest, highest = RANGES[name]
    for value in (lowest - 1, highest + 1, -1, math.nan, math.inf, "7", True):
        with pytest.raises(InvalidOptionError) as caught:
            QueueOptions(**{name: value})  # type: ignore[arg-type]
        assert f"{name} is {value!r}" in str(caught.value)
        assert f"between {lowest} and {highest}" in str(caught.value)


@pytest.mark.parametrize("name", ["max_attempts", "concurrency", "max_active", "batch_size", "priority"])
def test_what_is_counted_is_a_whole_number(name: str) -> None:
    with pytest.raises(InvalidOptionError, match="must be an integer"):
        QueueOptions(**{name: 1.5})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "choices"), [("on_success", "'delete', 'archive'"), ("on_bounce", "'keep', 'delete'")]
)
def test_an_error_names_the_choices(name: str, choices: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"{name} is 'burn'; it must be one of {choices}"):
        QueueOptions(**{name: "burn"})  # type: ignore[arg-type]


def test_the_options_as_keyword_arguments_are_the_fields() -> None:
    assert {field.name for field in fields(QueueOptions)} == set(QueueSettings.__annotations__)


def test_no_option_is_missing_a_range() -> None:
    others = {"on_success", "on_bounce", "retry_policy"}

    for field in fields(QueueOptions):
        if field.name not in others:
            with pytest.raises(InvalidOptionError):
                check_range(field.name, -1)
