from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retryspool import MessageNotFoundError, Queue, State
from retryspool.queue.bulk import Bulk
from retryspool_cli.tallies import TallyJson

from .conftest import Cli, put


@pytest.mark.parametrize(
    ("command", "before", "after"),
    [
        ("hold", State.INCOMING, State.HOLD),
        ("hold", State.DEFERRED, State.HOLD),
        ("release", State.HOLD, State.INCOMING),
        ("retry", State.DEFERRED, State.DEFERRED),
        ("retry", State.BOUNCE, State.INCOMING),
        ("bounce", State.DEFERRED, State.BOUNCE),
        ("requeue", State.ARCHIVED, State.INCOMING),
    ],
)
def test_a_command_moves_a_message(command: str, before: State, after: State, cli: Cli, queue: Queue) -> None:
    message_id = put(queue, before)

    assert 0 == cli(command, message_id).code
    assert after == queue.get(message_id).state


def test_rm_deletes(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.BOUNCE)

    assert "1 message deleted\n" == cli("rm", message_id).text
    with pytest.raises(MessageNotFoundError):
        queue.get(message_id)


def test_a_bounce_has_a_reason(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.HOLD)

    cli("bounce", message_id, "--reason", "no such shop")

    assert "no such shop" == queue.get(message_id).last_error


def test_ids_come_from_standard_input_too(cli: Cli, queue: Queue) -> None:
    ids = [put(queue, State.INCOMING) for _ in range(3)]

    result = cli("hold", ids[0], "-", stdin=f"{ids[1]}\n\n  {ids[2]}\r\n".encode())

    assert (0, "3 messages held\n") == (result.code, result.text)
    assert 3 == queue.count(State.HOLD)


def test_what_is_no_id_on_standard_input_is_an_error_like_any(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.INCOMING)

    result = cli("hold", "-", stdin=b"\xff\xfe\n../x\n" + message_id.encode())

    assert (1, "1 message held\n") == (result.code, result.text)
    assert 2 == result.err.count("Error: ")


def test_a_failure_stops_none_of_the_others_and_shows_in_the_exit_code(cli: Cli, queue: Queue) -> None:
    bounced = put(queue, State.BOUNCE)
    waiting = put(queue, State.INCOMING)

    result = cli("bounce", "unknown", bounced, waiting, "--json")

    assert 1 == result.code
    assert [False, False, True] == [line["ok"] for line in result.json_lines]
    assert {"id": waiting, "action": "bounce", "ok": True, "state": "bounce", "error": None} == result.json_lines[2]
    assert "does not exist" in result.json_lines[0]["error"]


def test_all_of_a_state_are_meant_only_if_that_is_said_twice(cli: Cli, queue: Queue) -> None:
    put(queue, State.BOUNCE)

    for arguments, message in (
        ((), "name messages by their ids"),
        (("--all",), "--all needs --state"),
        (("--state", "bounce", "x"), "narrow --all down"),
        (("--all", "--state", "bounce", "x"), "name messages by their ids"),
        (("--all", "--state", "bounce"), "Add --yes, or look first with --dry-run"),
    ):
        result = cli("rm", *arguments)

        assert 2 == result.code
        assert message in result.err
    assert 1 == queue.count(State.BOUNCE)


def test_all_of_a_state_are_taken(cli: Cli, queue: Queue) -> None:
    for _ in range(20):
        put(queue, State.BOUNCE)
    kept = put(queue, State.HOLD)

    assert "20 messages deleted\n" == cli("rm", "--all", "--state", "bounce", "--yes").text
    assert [kept] == cli("ls", "-q").lines


def test_route_and_age_narrow_it_down(cli: Cli, queue: Queue) -> None:
    there = put(queue, State.INCOMING, route="there")
    put(queue, State.INCOMING, route="here")

    assert "0 messages held\n" == cli("hold", "--all", "--state", "incoming", "--older-than", "1h", "--yes").text
    assert "1 message held\n" == cli("hold", "--all", "--state", "incoming", "--route", "there", "--yes").text
    assert [there] == cli("ls", "-q", "hold").lines


def test_a_dry_run_changes_nothing(cli: Cli, queue: Queue) -> None:
    waiting, held = put(queue, State.INCOMING), put(queue, State.HOLD)

    result = cli("rm", "--all", "--state", "incoming", "--dry-run")
    named = cli("release", waiting, held, "--dry-run")

    assert [waiting, "incoming"] == result.lines[1].split()[:2]
    assert ["1 message would be deleted: 1 in incoming"] == result.lines[2:]
    assert [held, "1 message would be released"] == named.lines
    assert 1 == named.code
    assert 1 == queue.count(State.INCOMING)


@pytest.mark.usefixtures("queue")
def test_a_state_that_a_command_is_not_for_is_wrong_usage(cli: Cli) -> None:
    result = cli("release", "--all", "--state", "bounce", "--yes")

    assert 2 == result.code
    assert "this is for messages in hold" in result.err


def test_a_person_is_asked_first(cli: Cli, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    put(queue, State.BOUNCE)
    asked: list[str] = []

    def answer(*, yes: bool) -> Callable[..., bool]:
        def confirm(text: str, **_: object) -> bool:
            asked.append(text)
            if not yes:
                raise KeyboardInterrupt
            return True

        return confirm

    monkeypatch.setattr("retryspool_cli.selection.is_terminal", lambda _: True)
    monkeypatch.setattr("click.confirm", answer(yes=False))
    assert 130 == cli("rm", "--all", "--state", "bounce").code
    assert 1 == queue.count(State.BOUNCE)
    monkeypatch.setattr("click.confirm", answer(yes=True))
    assert 0 == cli("rm", "--all", "--state", "bounce").code
    assert 0 == queue.count(State.BOUNCE)
    assert ["Delete 1 message?"] * 2 == asked


def test_nobody_is_asked_about_nothing(cli: Cli, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    put(queue, State.HOLD)
    monkeypatch.setattr("retryspool_cli.selection.is_terminal", lambda _: True)

    assert (0, ["0 messages would be deleted"]) == (
        (result := cli("rm", "--all", "--state", "bounce")).code,
        result.lines,
    )


def test_json_asks_nobody_and_so_needs_yes(cli: Cli, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    put(queue, State.BOUNCE)
    monkeypatch.setattr("retryspool_cli.selection.is_terminal", lambda _: True)

    assert 2 == cli("rm", "--all", "--state", "bounce", "--json").code
    assert 1 == cli("rm", "--all", "--state", "bounce", "--json", "--yes").json["changed"]


def test_what_was_done_to_all_is_one_document(cli: Cli, queue: Queue) -> None:
    ids = {put(queue, State.INCOMING, route="a"), put(queue, State.DEFERRED, route="a")}
    put(queue, State.HOLD, route="a")

    document = cli("hold", "--all", "--route", "a", "--json", "--yes").json

    assert set(TallyJson.__annotations__) == set(document)
    assert ids == set(document.pop("sample"))
    assert {
        "action": "hold",
        "dry_run": False,
        "matched": 3,
        "changed": 2,
        "states": {"incoming": 1, "deferred": 1},
        "skipped": {"nothing to change": 1},
        "failed": {},
    } == document


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--route", "*.example.com"), {"there"}),
        (("--route", "*.example.com", "--route", "nowhere"), {"there", "else"}),
        (("--route", ""), {"plain"}),
        (("--header", "to=*@example.com"), {"else"}),
        (("--id", "t*"), {"there"}),
        (("--error", "TIMEOUT"), {"there", "else"}),
        (("--error-regex", "^time.*shop"), {"there"}),
        (("--attempts", "3.."), {"there"}),
        (("--attempts", "1..2", "--attempts", "0"), {"plain"}),
        (("--size", "1K.."), {"plain"}),
        (("--size", "..1K"), {"there", "else"}),
        (("--newer-than", "1h", "--touched", "1h"), {"there", "else", "plain"}),
        (("--older-than", "1h"), set()),
        (("--untouched", "1h"), set()),
        (("--due-before", "1h"), {"else", "plain"}),
        (("--due-after", "1h"), {"there"}),
    ],
)
def test_a_command_and_a_listing_mean_the_same_by_their_options(
    cli: Cli, queue: Queue, options: tuple[str, ...], expected: set[str]
) -> None:
    put(queue, State.INCOMING, b"x" * 2000, message_id="plain")
    put(queue, State.INCOMING, message_id="there", route="shop.example.com", not_before=7200)
    put(queue, State.INCOMING, message_id="else", route="nowhere", headers={"to": "you@example.com"})
    for name, attempts, error in (("there", 3, "timeout at the shop"), ("else", 1, "timeout")):
        record = queue.spool.get(name)
        queue.spool.meta.update_meta(name, replace(record, attempts=attempts, last_error=error))

    assert expected == set(cli("ls", "-q", *options).lines)
    assert len(expected) == cli("hold", "--all", *options, "--json", "--yes").json["changed"]
    assert expected == {record.id for record in queue.iter(State.HOLD)}


@pytest.mark.parametrize(
    "wrong",
    [("--attempts", ".."), ("--attempts", "5..3"), ("--attempts", "x"), ("--size", "1X"), ("--error-regex", "(")],
)
@pytest.mark.usefixtures("queue")
def test_a_narrowing_that_makes_no_sense_is_wrong_usage(cli: Cli, wrong: tuple[str, str]) -> None:
    assert 2 == cli("hold", "--all", *wrong, "--yes").code


def test_fields_are_set(cli: Cli, queue: Queue) -> None:
    named = put(queue, State.HOLD)
    put(queue, State.INCOMING, route="old")

    assert 0 == cli("set", named, "--new-priority", "1", "--new-policy", "exponential").code
    assert 1 == cli("set", "--all", "--route", "old", "--new-route", "new", "--json", "--yes").json["changed"]
    assert (1, "exponential") == ((record := queue.get(named)).priority, record.retry_policy_name)
    assert ["new"] == [record.route for record in queue.iter(State.INCOMING)]
    assert 2 == cli("set", named).code
    assert 2 == cli("set", named, "--new-policy", "unknown").code


def test_bounced_messages_are_replayed_at_a_rate(cli: Cli, queue: Queue) -> None:
    for _ in range(3):
        put(queue, State.BOUNCE)

    assert "3 messages due\n" == cli("retry", "--all", "--state", "bounce", "--rate", "0.5", "--yes").text
    first, second, third = sorted(record.next_retry for record in queue.iter(State.INCOMING))
    assert (2, 2) == ((second - first).total_seconds(), (third - second).total_seconds())
    assert 2 == cli("retry", "x", "--rate", "1").code


def test_what_was_skipped_is_told(cli: Cli, queue: Queue) -> None:
    put(queue, State.HOLD, route="a")
    put(queue, State.INCOMING, route="a")

    result = cli("hold", "--all", "--route", "a", "--yes")

    assert ("1 message held\n", "1 skipped: 1 × nothing to change\n") == (result.text, result.err)


def test_an_interrupted_run_tells_how_far_it_came(
    cli: Cli, queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _ in range(10):
        put(queue, State.INCOMING)
    (tmp_path / "retryspool.toml").write_text("[queue]\nbatch_size = 4")
    run = Bulk._change_batch

    def interrupted(bulk: Bulk, *arguments: Any, **named: Any) -> None:
        if bulk.tally.changed:
            raise KeyboardInterrupt
        run(bulk, *arguments, **named)

    monkeypatch.setattr(Bulk, "_change_batch", interrupted)

    result = cli("hold", "--all", "--state", "incoming", "--yes")

    assert (130, "4 messages held until then\ninterrupted\n") == (result.code, result.err)
    assert 4 == queue.count(State.HOLD)
