from collections.abc import Callable

import pytest

from retryspool import MessageNotFoundError, Queue, State

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

    assert [waiting, "1 message would be deleted"] == result.lines
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
    assert ["Delete 1 messages in bounce?"] * 2 == asked
