from dataclasses import replace

import pytest

from retryspool import Queue, State
from retryspool_cli import grouping
from retryspool_cli.grouping import GroupJson

from .conftest import Cli, put


def fail(queue: Queue, error: str) -> str:
    message_id = put(queue, State.BOUNCE)
    queue.spool.meta.update_meta(message_id, replace(queue.spool.get(message_id), last_error=error))
    return message_id


def test_bounces_are_counted_by_their_errors(cli: Cli, queue: Queue) -> None:
    for error in (
        "PermanentError: 550 5.1.1 <a@example.com>: unknown in table 'x1'",
        "PermanentError: 550 5.1.1 <b@example.com>: unknown in table 'x2'",
        "PermanentError: 550 5.1.1 b@example.com is unknown",
        "id 12345678 (0190b3f2-6a5b-7c3d-8e4f-0123456789ab) failed",
        "id 98765432 (0190b3f2-6a5b-7c3d-8e4f-ba9876543210) failed",
        "552 too big",
        "550 no",
    ):
        fail(queue, error)
    put(queue, State.HOLD)

    groups = cli("ls", "bounce", "--by", "error", "--json").json_lines

    assert [
        ("550 5.1.1 …: unknown in table …", 2),
        ("id … (…) failed", 2),
        ("550 5.1.1 … is unknown", 1),
        ("550 no", 1),
        ("552 too big", 1),
    ] == [(each["value"], each["count"]) for each in groups]
    assert set(GroupJson.__annotations__) == set(groups[0])
    assert "550 no" == queue.get(groups[3]["example"]).last_error.removeprefix("PermanentError: ")


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("route", {"a": 2, "b": 1}),
        ("state", {"bounce": 2, "hold": 1}),
        ("policy", {"": 3}),
        ("header:to", {"you": 1, "": 2}),
    ],
)
def test_messages_are_counted_by_what_they_have_in_common(
    cli: Cli, queue: Queue, by: str, expected: dict[str, int]
) -> None:
    put(queue, State.BOUNCE, route="a", headers={"to": "you"})
    put(queue, State.BOUNCE, route="a")
    put(queue, State.HOLD, route="b")

    assert expected == {each["value"]: each["count"] for each in cli("ls", "--by", by, "--json").json_lines}


def test_groups_of_those_that_a_filter_means_are_a_table(cli: Cli, queue: Queue) -> None:
    for route in ("a", "b", "b"):
        put(queue, State.HOLD, route=route)

    result = cli("ls", "--by", "route", "--route", "[ab]", "-n", "1")

    assert ["MESSAGES", "OLDEST", "NEWEST", "ROUTE"] == result.lines[0].split()
    assert "2" == result.lines[1].split()[0]
    assert "1 of 2 groups" in result.err


def test_there_are_never_more_groups_than_memory_allows(
    cli: Cli, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "MOST_GROUPS", 3)
    for number in range(6):
        put(queue, State.HOLD, route=f"r{number}")

    groups = {each["value"]: each["count"] for each in cli("ls", "--by", "route", "--json").json_lines}

    assert (4, 3) == (len(groups), groups["(others)"])


@pytest.mark.usefixtures("queue")
def test_what_there_is_to_group_by_is_told(cli: Cli) -> None:
    result = cli("ls", "--by", "colour")

    assert (2, True) == (result.code, "error, route, state, policy and header:NAME" in result.err)
