from dataclasses import replace

import pytest

from retryspool import Queue, State
from retryspool_cli.records import RecordJson

from .conftest import Cli, put


def test_messages_are_listed_with_what_matters(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.DEFERRED, b"x" * 2048, route="example.com")

    header, line = cli("ls").lines

    assert ["ID", "STATE", "TRIES", "AGE", "DUE", "SIZE", "ROUTE", "LAST", "ERROR"] == header.split()
    assert line.startswith(f"{message_id}  deferred   0/10")
    assert "2.0 KiB  example.com" in line


def test_states_narrow_a_listing_down(cli: Cli, queue: Queue) -> None:
    ids = {state.label: put(queue, state) for state in State}

    assert set(ids.values()) == set(cli("ls", "-q").lines)
    assert {ids["hold"], ids["bounce"]} == set(cli("ls", "-q", "hold", "BOUNCE").lines)


def test_several_states_are_listed_in_one_order(cli: Cli, queue: Queue) -> None:
    states = [State.BOUNCE, State.INCOMING, State.HOLD]
    ids = [put(queue, states[number % 3], priority=90 - number) for number in range(9)]

    assert ids == cli("ls", "-q", "--sort", "created").lines
    assert ids[::-1] == cli("ls", "-q", "--sort", "priority").lines
    assert ids[:4] == cli("ls", "-q", "--sort", "priority", "--reverse", "--limit", "4").lines


def test_a_listing_that_is_cut_says_so(cli: Cli, queue: Queue) -> None:
    for _ in range(3):
        put(queue, State.HOLD)

    result = cli("ls", "-n", "2")

    assert 3 == len(result.lines)
    assert "2 of 3 messages; --limit 0 lists all\n" == result.err


def test_all_messages_are_listed_without_a_limit(cli: Cli, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retryspool_cli.commands.ls._PAGE", 3)
    ids = [put(queue, State.HOLD) for _ in range(10)]

    assert ids == cli("ls", "-q", "--limit", "0").lines


def test_since_leaves_out_what_is_older(cli: Cli, queue: Queue) -> None:
    put(queue, State.HOLD)

    assert 1 == len(cli("ls", "-q", "--since", "1h").lines)
    assert [] == cli("ls", "-q", "--since", "2099-01-01").lines


def test_json_has_the_keys_that_are_documented(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.HOLD, headers={"to": "x"})

    (listed,) = cli("ls", "--json").json_lines
    shown = cli("show", "--json", message_id).json

    assert list(RecordJson.__annotations__) == list(shown)
    assert listed == shown
    assert (message_id, "hold", {"to": "x"}) == (shown["id"], shown["state"], shown["headers"])
    assert shown["created"].endswith("Z")
    assert shown["next_retry"] is None


def test_what_a_sender_put_into_a_message_does_nothing_to_the_terminal(cli: Cli, queue: Queue) -> None:
    evil = "\x1b]0;pwned\x07\x1b[2J\r\u202e[bold red]"
    message_id = put(queue, State.HOLD, headers={"subject": evil}, route=evil)
    record = queue.get(message_id)
    queue.spool.meta.update_meta(message_id, replace(record, last_error=evil))

    for arguments in (("ls",), ("show", message_id)):
        result = cli(*arguments)

        assert 0 == result.code
        assert result.text.replace("\n", "").isprintable(), result.text
        assert "[bold red]" in result.text


def test_show_tells_all(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.HOLD, b"12345", headers={"to": "x"}, route="r", max_attempts=3)

    text = cli("show", message_id).text

    for part in (message_id, "hold", "0 of 3", "5 bytes", "to: x"):
        assert part in text


def test_one_that_is_not_there_stops_none_of_the_others(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.HOLD)

    result = cli("cat", "unknown", message_id, "../etc/passwd")

    assert (1, b"payload") == (result.code, result.out)
    assert "message 'unknown' does not exist" in result.err
    assert 2 == result.err.count("Error: ")


@pytest.mark.usefixtures("spool")
def test_an_empty_spool_is_listed(cli: Cli) -> None:
    assert (0, 1) == (cli("ls").code, len(cli("ls").lines))
    assert b"" == cli("ls", "--json").out


def test_stats_count_each_state(cli: Cli, queue: Queue) -> None:
    put(queue, State.HOLD)
    put(queue, State.HOLD)

    stats = cli("stats", "--json").json

    assert {"time", "total", "states", "paused"} == set(stats)
    assert [state.label for state in State] == list(stats["states"])
    assert 2 == stats["total"] == stats["states"]["hold"]["count"]
    assert stats["states"]["hold"]["oldest"] is not None
    assert {"count": 0, "oldest": None, "oldest_due": None} == stats["states"]["bounce"]
    assert [["hold", "2"]] == [line.split()[:2] for line in cli("stats").lines if line.startswith("hold")]
