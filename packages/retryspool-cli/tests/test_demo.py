import time
from collections.abc import Callable
from pathlib import Path

import pytest

from retryspool import Queue, State
from retryspool_cli.demo.ledger import audit
from retryspool_cli.demo.outages import Outages
from retryspool_cli.demo.receiver import Receiver, Taken
from retryspool_cli.demo.stores import open_stores
from retryspool_cli.demo.workers import WorkerProcess
from retryspool_cli.exits import CommandError
from retryspool_cli.servers import RedisServer, ServerError

from .conftest import Cli, put, wait_for


def test_the_demo_accounts_for_every_message_and_can_be_looked_at_afterwards(process: Cli, tmp_path: Path) -> None:
    result = process("demo", "--messages", "40", "--keep", env={"TMPDIR": str(tmp_path)})

    assert 0 == result.code, result.text + result.err
    ledger = {line[:15].strip(): line[15:].split()[0] for line in result.lines if line[:1] != " " and line[15:].split()}
    assert "40" == ledger["accepted"]
    assert ("38", "2") == (ledger["delivered"], ledger["bounced"])
    assert ("0", "0", "0") == (ledger["lost"], ledger["damaged"], ledger["still waiting"])
    for event in ("holds", "goes down", "is up again", "kill -9", "releases"):
        assert event in result.text
    kept, _, command = result.lines[-1].removeprefix("kept in ").partition("; look at it with: retryspool ")
    assert tmp_path == Path(kept).parent
    assert 40 == len(process(*command.split(), "--ids").lines)


@pytest.mark.parametrize(
    ("meta", "data", "servers"),
    [
        pytest.param("redis", "pg", ("Redis", "PostgreSQL"), marks=(pytest.mark.redis, pytest.mark.pg)),
        pytest.param("fs", "s3", ("SeaweedFS",), marks=pytest.mark.s3),
    ],
    ids=["redis-pg", "fs-s3"],
)
def test_the_demo_loses_nothing_when_its_servers_are_killed(
    meta: str, data: str, servers: tuple[str, ...], process: Cli
) -> None:
    result = process("demo", "--messages", "40", "--meta", meta, "--data", data)

    assert 0 == result.code, result.text + result.err
    assert "".join(f"starting {server}\n" for server in servers) == result.err
    for server in servers:
        assert f"kill -9 of {server}" in result.text
        assert f"{server} is up again" in result.text


def test_a_worker_that_ends_before_it_begins_is_an_error_that_says_why(tmp_path: Path) -> None:
    worker = WorkerProcess("worker 1", ["work", "--webhook", "http://localhost"], tmp_path / "worker.log")

    with pytest.raises(CommandError, match=r"worker 1 ended before it began: Error: which spool"):
        wait_for(lambda: worker.has_begun)


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

    ledger = audit(queue, dict.fromkeys("abc", "right"), log, may_repeat={"c"})

    assert ({"b"}, {"a", "c"}, {"a"}, {"z"}) == (ledger.damaged, ledger.twice, ledger.unexplained, ledger.strangers)
    assert set() == ledger.lost
    assert not ledger.is_clean


def test_a_bounced_payload_is_compared_too(queue: Queue, receiver: Receiver, log: Path) -> None:
    message_id = put(queue, State.BOUNCE, b"other bytes")
    receiver.close()

    assert {message_id} == audit(queue, {message_id: "digest"}, log, ()).damaged


# -- where the messages are --------------------------------------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    return [*folder.rglob("*.json"), *folder.rglob("*.data")]


def test_stores_by_url_get_a_namespace_of_their_own_that_is_removed(tmp_path: Path) -> None:
    mine = f"fs:{tmp_path}/mine"
    with open_stores(tmp_path / "demo", mine, mine) as stores:
        with stores.open_queue() as queue:
            put(queue, State.INCOMING)
        assert 2 == len(files(tmp_path / "mine"))
        assert "namespace=demo_" in stores.meta
        assert () == stores.servers

    assert [] == files(tmp_path / "mine")


def test_stores_by_url_are_left_where_they_are_to_be_kept(tmp_path: Path) -> None:
    mine = f"fs:{tmp_path}/mine"
    with open_stores(tmp_path / "demo", mine, mine, keep=True) as stores, stores.open_queue() as queue:
        message_id = put(queue, State.INCOMING)

    with stores.open_queue() as queue:
        assert message_id == queue.get(message_id).id


@pytest.mark.parametrize(
    ("meta", "data", "wrong"),
    [
        ("memory", "fs", "--meta memory: the demo's workers are processes, and memory belongs to one alone"),
        ("fs", "memory:x", "--data memory:x: the demo's workers are processes, and memory belongs to one alone"),
        ("fs", "fs:x?namespace=mine", "--data names the namespace 'mine'; leave it out"),
        ("carbon", "fs", "there is no meta 'carbon'; installed: "),
    ],
    ids=["memory", "memory-url", "namespace", "unknown"],
)
def test_stores_that_the_demo_cannot_use_are_refused(meta: str, data: str, wrong: str, cli: Cli) -> None:
    result = cli("demo", "--messages", "20", "--meta", meta, "--data", data)

    assert result.code in {1, 2}
    assert wrong in result.err
    assert "" == result.text


def test_processes_find_the_stores_by_the_settings_in_their_folder(tmp_path: Path, process: Cli) -> None:
    with open_stores(tmp_path / 'a spool "with" ☕', "fs", "fs") as stores:
        stores.configure(tmp_path)
        assert 0 == process("enqueue", stdin=b"payload").code
        with stores.open_queue() as queue:
            assert 1 == queue.counts()[State.INCOMING]


def test_a_server_is_killed_and_started_again_once(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    told: list[str] = []
    outages = Outages([server], told.append)
    before = time.monotonic()
    assert not outages.are_going_on

    outages.begin()
    wait_for(lambda: bool(told))
    assert (False, True) == (server.is_running, outages.are_going_on)
    outages.wait()

    assert (True, False) == (server.is_running, outages.are_going_on)
    assert ["kill -9 of Redis: nobody can reach it", "Redis is up again"] == [text.partition(",")[0] for text in told]
    assert outages.may_have_hit(time.monotonic(), before_s=0, after_s=5)
    assert not outages.may_have_hit(before - 1, before_s=0.5, after_s=5)
    assert not outages.may_have_hit(time.monotonic() + 6, before_s=0, after_s=5)


def test_a_server_that_does_not_come_up_again_ends_the_demo(new_redis: Callable[..., RedisServer]) -> None:
    server = new_redis()
    server._settings["appendfsync"] = "perhaps"
    outages = Outages([server], lambda _: None)

    outages.begin()
    outages.wait()

    with pytest.raises(ServerError, match="appendfsync"):
        _ = outages.are_going_on
