from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from retryspool import Filter, InvalidOptionError, MessageMetadata, Queue, State

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
RECORD = MessageMetadata(
    "order-7",
    state=State.DEFERRED,
    attempts=3,
    next_retry=NOON + HOUR,
    created=NOON - HOUR,
    updated=NOON,
    last_error="Timeout: shop.example.com didn't answer",
    size=1000,
    headers={"to": "you@example.com", "kind": "order"},
    route="shop.example.com",
)


@pytest.mark.parametrize(
    ("matching", "other"),
    [
        ({}, {"states": (State.HOLD,)}),
        ({"states": (State.HOLD, State.DEFERRED)}, {"states": (State.HOLD, State.BOUNCE)}),
        ({"id_pattern": "order-*"}, {"id_pattern": "order"}),
        ({"id_pattern": "order-7"}, {"id_pattern": "ORDER-7"}),
        ({"routes": ("shop.example.com",)}, {"routes": ("example.com",)}),
        ({"routes": ("nowhere", "*.example.com")}, {"routes": ("",)}),
        ({"headers": {"to": "*@example.com"}}, {"headers": {"to": "*@example.org"}}),
        ({"headers": {"to": "*", "kind": "order"}}, {"headers": {"to": "*", "kind": "bill"}}),
        ({"headers": {"to": "*"}}, {"headers": {"from": "*"}}),
        ({"error": "timeout"}, {"error": "refused"}),
        ({"error_regex": r"^Timeout: \w+\."}, {"error_regex": r"^timeout"}),
        ({"created_before": NOON}, {"created_before": NOON - HOUR}),
        ({"created_since": NOON - HOUR}, {"created_since": NOON}),
        ({"updated_before": NOON + HOUR}, {"updated_before": NOON}),
        ({"updated_since": NOON}, {"updated_since": NOON + HOUR}),
        ({"due_before": NOON + 2 * HOUR}, {"due_before": NOON}),
        ({"due_since": NOON}, {"due_since": NOON + 2 * HOUR}),
        ({"min_attempts": 3}, {"min_attempts": 4}),
        ({"max_attempts": 3}, {"max_attempts": 2}),
        ({"min_size": 1000}, {"min_size": 1001}),
        ({"max_size": 1000}, {"max_size": 999}),
    ],
)
def test_a_filter_means_what_all_of_it_holds_for(matching: dict[str, Any], other: dict[str, Any]) -> None:
    assert Filter(**matching).matches(RECORD)
    assert not Filter(**other).matches(RECORD)
    assert not Filter(**{**matching, **other}).matches(RECORD)


def test_every_field_of_a_filter_counts() -> None:
    tried = {
        "states", "id_pattern", "routes", "headers", "error", "error_regex", "created_before", "created_since",
        "updated_before", "updated_since", "due_before", "due_since", "min_attempts", "max_attempts", "min_size",
        "max_size",
    }  # fmt: skip

    assert tried == {field.name for field in fields(Filter)}


def test_a_route_with_brackets_is_matched_by_itself() -> None:
    assert Filter(routes=("[::1]",)).matches(MessageMetadata("a", route="[::1]"))


def test_messages_without_a_route_are_meant_by_an_empty_one() -> None:
    assert Filter(routes=("",)).matches(MessageMetadata("a"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"created_before": datetime(2030, 1, 1)}, "created_before has no time zone"),  # noqa: DTZ001
        ({"min_size": -1}, "min_size is -1"),
        ({"error_regex": "("}, "no regular expression"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        Filter(**wrong)


def test_an_empty_filter_says_so() -> None:
    assert Filter().is_empty
    assert not Filter(min_size=0).is_empty


def test_a_queue_selects_by_filter(queue: Queue) -> None:
    for number in range(5):
        queue.enqueue(b"", message_id=f"m{number}", route="even" if number % 2 == 0 else "odd")

    assert {"m1", "m3"} == {record.id for record in queue.select(Filter(routes=("odd",)))}
