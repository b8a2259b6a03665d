from pathlib import Path

import pytest

from retryspool import Queue, State
from retryspool_cli.demo.ledger import audit
from retryspool_cli.demo.receiver import Receiver, Taken

from .conftest import Cli, put


def test_the_demo_accounts_for_every_message(process: Cli) -> None:
    result = process("demo", "--messages", "40")

    assert 0 == result.code, result.text + result.err
    ledger = {line[:15].strip(): line[15:].split()[0] for line in result.lines if line[:1] != " " and line[15:].split()}
    assert "40" == ledger["accepted"]
    assert ("38", "2") == (ledger["delivered"], ledger["bounced"])
    assert ("0", "0", "0") == (ledger["lost"], ledger["damaged"], ledger["still waiting"])
    for event in ("holds", "goes down", "is up again", "kill -9", "releases"):
        assert event in result.text


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "receiver.log"


@pytest.fixture
def receiver(log: Path) -> Receiver:
    return Receiver(log)


def test_the_audit_finds_what_was_lost(queue: Queue, receiver: Receiver, log: Path) -> None:
    bounced = put(queue, State.BOUNCE)
    waiting = put(queue, State.DEFERRED)
    receiver.took(Taken("delivered", "d1", 200))
    receiver.took(Taken("refused", "d2", 503))
    receiver.close()

    ledger = audit(queue, {"delivered": "d1", "refused": "d2", "never-seen": "d3", bounced: "x", waiting: "y"}, log, ())

    assert {"refused", "never-seen"} == ledger.lost
    assert ({"delivered"}, {bounced}, {waiting}) == (ledger.delivered, ledger.bounced, ledger.waiting)
    assert not ledger.is_clean


def test_the_audit_finds_what_was_damaged_doubled_or_made_up(queue: Queue, receiver: Receiver, log: Path) -> None:
    for message_id, digest in (
        ("a", "right"),
        ("a", "right"),
        ("b", "wrong"),
        ("c", "right"),
        ("c", "right"),
        ("z", "?"),
    ):
        receiver.took(Taken(message_id, digest, 200))
    receiver.close()

    ledger = audit(queue, dict.fromkeys("abc", "right"), log, in_a_handler={"c"})

    assert ({"b"}, {"a", "c"}, {"a"}, {"z"}) == (ledger.damaged, ledger.twice, ledger.unexplained, ledger.strangers)
    assert set() == ledger.lost
    assert not ledger.is_clean


def test_a_bounced_payload_is_compared_too(queue: Queue, receiver: Receiver, log: Path) -> None:
    message_id = put(queue, State.BOUNCE, b"other bytes")
    receiver.close()

    assert {message_id} == audit(queue, {message_id: "digest"}, log, ()).damaged
