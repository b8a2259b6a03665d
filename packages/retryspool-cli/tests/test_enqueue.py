from pathlib import Path

import pytest

from retryspool import Queue, State

from .conftest import Cli


@pytest.mark.usefixtures("spool")
def test_standard_input_is_a_message_byte_for_byte(cli: Cli) -> None:
    content = bytes(range(256)) * 3

    (message_id,) = cli("enqueue", stdin=content).lines

    assert content == cli("cat", message_id).out


@pytest.mark.usefixtures("spool")
def test_a_pipe_is_a_message_too(process: Cli) -> None:
    (message_id,) = process("enqueue", "-", stdin=b"\xff\0x").lines

    assert b"\xff\0x" == process("cat", message_id).out


@pytest.mark.usefixtures("spool")
def test_each_file_is_a_message(cli: Cli, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)

    first, second = cli("enqueue", "a", "b").lines

    assert b"ab" == cli("cat", first, second).out


@pytest.mark.usefixtures("spool")
def test_options_become_the_record(cli: Cli) -> None:
    record = cli(
        *("enqueue", "--json", "-H", "to=x=y", "-H", "Subject=Grüße", "--id", "order-1", "--route", "example.com"),
        *(
            "--priority",
            "1",
            "--max-attempts",
            "3",
            "--not-before",
            "2099-01-01T00:00Z",
            "--retry-policy",
            "exponential",
        ),
        stdin=b"12345",
    ).json

    expected = {
        "id": "order-1",
        "state": "incoming",
        "size": 5,
        "headers": {"to": "x=y", "Subject": "Grüße"},
        "route": "example.com",
        "priority": 1,
        "max_attempts": 3,
        "next_retry": "2099-01-01T00:00:00.000000Z",
        "retry_policy": "exponential",
    }
    assert expected == {key: record[key] for key in expected}


@pytest.mark.usefixtures("spool")
def test_an_id_makes_a_second_try_harmless(cli: Cli) -> None:
    cli("enqueue", "--id", "one", stdin=b"first")

    assert 1 == cli("enqueue", "--id", "one", stdin=b"second").code
    skipped = cli("enqueue", "--id", "one", "--if-exists", "skip", stdin=b"third")

    assert (0, ["one"]) == (skipped.code, skipped.lines)
    assert b"first" == cli("cat", "one").out


@pytest.mark.usefixtures("spool")
def test_a_file_that_cannot_be_read_stops_none_of_the_others(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "good").write_text("x")

    result = cli("enqueue", "nowhere", "good", ".")

    assert 1 == result.code
    assert 1 == len(result.lines)
    assert "Error: nowhere: No such file or directory\n" in result.err
    assert "Error: .: Is a directory\n" in result.err


def test_what_cannot_be_is_wrong_usage_and_stores_nothing(cli: Cli, queue: Queue) -> None:
    for options in (
        ("--id", "../x"),
        ("--id", ""),
        ("--id", "a", "f", "f"),
        ("--header", "novalue"),
        ("--priority", "101"),
        ("--max-attempts", "0"),
        ("--not-before", "soon"),
        ("--retry-policy", "unknown"),
    ):
        assert 2 == cli("enqueue", *options, stdin=b"x").code, options
    assert 0 == sum(queue.counts().values())


@pytest.mark.usefixtures("spool")
def test_a_policy_of_the_settings_can_be_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "retryspool.toml").write_text('[retry_policies]\nquick = "fixed:1s"\n[queue]\nmax_attempts = 7')

    record = cli("enqueue", "--json", "--retry-policy", "quick", stdin=b"x").json

    assert ("quick", 7) == (record["retry_policy"], record["max_attempts"])


@pytest.mark.usefixtures("spool")
def test_an_option_of_the_queue_that_there_is_not_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "retryspool.toml").write_text("[queue]\nconcurency = 7")

    result = cli("enqueue", stdin=b"x")

    assert 2 == result.code
    assert "[queue] has no option 'concurency'; there are: " in result.err


def test_a_new_spool_is_made(cli: Cli, tmp_path: Path) -> None:
    assert 0 == cli("--spool", "new/spool", "enqueue", stdin=b"x").code
    with Queue.open(tmp_path / "new" / "spool") as queue:
        assert 1 == queue.count(State.INCOMING)
