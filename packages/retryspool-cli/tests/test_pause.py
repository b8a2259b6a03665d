import pytest

from retryspool import Queue
from retryspool.meta import NoteKeeper
from retryspool_cli.pauses import PausedJson, PauseJson, who

from .conftest import Cli


def test_a_spool_is_paused_and_resumed(cli: Cli, queue: Queue) -> None:
    shown = cli("pause", "--reason", "moving house")
    paused = queue.paused().spool

    assert paused is not None
    assert (who(), "moving house") == (paused.by, paused.reason)
    assert ["the", "whole", "spool"] == shown.lines[1].split()[:3]
    assert (0, "") == ((result := cli("resume")).code, result.text)
    assert None is queue.paused().spool


def test_routes_are_paused_by_themselves(cli: Cli, queue: Queue) -> None:
    document = cli("pause", "--route", "a", "--route", "b", "--by", "me", "--json").json

    assert set(PausedJson.__annotations__) == set(document)
    assert set(PauseJson.__annotations__) == set(document["routes"]["a"])
    assert (None, {"a", "b"}) == (document["spool"], set(document["routes"]))
    assert {"b"} == set(cli("resume", "--route", "a", "--json").json["routes"])
    assert "was not paused" in cli("resume", "--route", "a").err
    assert "these are still paused" in cli("resume").err
    cli("resume", "--all")
    assert {} == queue.paused().routes


def test_stats_show_what_is_paused(cli: Cli, queue: Queue) -> None:
    assert {"spool": None, "routes": {}} == cli("stats", "--json").json["paused"]
    queue.pause("shop", by="me", reason="inventory")

    assert "inventory" == cli("stats", "--json").json["paused"]["routes"]["shop"]["reason"]
    last = cli("stats").lines[-1]
    assert last.startswith("route shop ")
    assert ["me", "inventory"] == last.split()[-2:]


def test_stats_are_shown_where_nobody_can_tell_what_is_paused(cli: Cli, queue: Queue) -> None:
    assert isinstance(queue.spool.meta, NoteKeeper)
    queue.spool.meta.set_note("pause.routes", "{")

    result = cli("stats", "--json")

    assert (0, None) == (result.code, result.json["paused"])
    assert "resume all" in result.err
    assert 1 == cli("pause", "--list").code
    assert 0 == cli("resume", "--all").code


def test_a_listing_of_pauses_changes_nothing(cli: Cli, queue: Queue) -> None:
    assert "nothing is paused" in cli("pause", "--list").err
    assert None is queue.paused().spool
    queue.pause("b\x1b[31m")
    assert "\\x1b" in cli("pause", "--list").text


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("wrong", [("pause", "--list", "--route", "a"), ("resume", "--all", "--route", "a")])
def test_what_contradicts_itself_is_wrong_usage(cli: Cli, wrong: tuple[str, ...]) -> None:
    assert 2 == cli(*wrong).code


def test_a_store_that_keeps_no_notes_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retryspool.queue.pausing.NoteKeeper", int)

    result = cli("--meta", "memory:", "--data", "memory:", "pause")

    assert (1, True) == (result.code, "keeps no notes" in result.err)


def test_nothing_is_delivered_from_a_paused_spool(cli: Cli, queue: Queue) -> None:
    message_id = queue.enqueue(b"").id
    cli("pause")

    assert 0 == cli("work", "--exec", "true", "--drain").code
    assert message_id == queue.get(message_id).id
    cli("resume")
    cli("work", "--exec", "true", "--drain")
    assert 0 == sum(queue.counts().values())
