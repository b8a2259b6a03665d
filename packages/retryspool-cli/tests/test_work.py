import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from retryspool import Queue, State

from .conftest import Cli, put, wait_for
from .receivers import HttpReceiver, answer


@pytest.fixture
def worker_process() -> Callable[..., subprocess.Popen[bytes]]:
    def start(*arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "retryspool_cli", "work", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    return start


def test_messages_go_to_a_function_of_the_users(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "def deliver(message, payload):\n"
        "    Path(message.headers['to']).write_bytes(payload.read())\n"
    )
    put(queue, State.INCOMING, b"hello", headers={"to": str(tmp_path / "got")})

    result = cli("work", "--handler", "mine:deliver", "--drain")

    assert 0 == result.code
    assert b"hello" == (tmp_path / "got").read_bytes()
    assert "1 delivered, 0 deferred, 0 bounced" in result.err
    assert 0 == sum(queue.counts().values())


def test_the_report_is_a_document_too(cli: Cli, queue: Queue) -> None:
    put(queue, State.INCOMING)
    put(queue, State.INCOMING, b"")

    report = cli("work", "--exec", "grep -q payload || exit 65", "--drain", "--json").json

    assert (1, 1, 0) == (report["delivered"], report["bounced"], report["deferred"])
    assert report["seconds"] > 0


def test_what_was_delivered_is_archived_if_so_wished(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.INCOMING)

    cli("work", "--exec", "true", "--drain", "--on-success", "archive")

    assert State.ARCHIVED is queue.get(message_id).state


def test_a_bounce_goes_where_bounces_go(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    message_id = put(queue, State.INCOMING)
    noted = tmp_path / "noted"

    cli(
        *("work", "--exec", "echo gone; exit 67", "--drain", "--on-bounce", "archive"),
        *("--bounce-exec", f'echo "$RETRYSPOOL_ID $RETRYSPOOL_LAST_ERROR" > {noted}'),
    )

    assert State.ARCHIVED is queue.get(message_id).state
    assert noted.read_text().startswith(message_id)
    assert "gone" in noted.read_text()


@pytest.mark.usefixtures("spool")
def test_a_webhook_gets_what_was_spooled(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(200_000))
    with HttpReceiver([answer(503)]) as receiver:
        cli("enqueue", "file")
        cli("work", "--webhook", receiver.url, "--webhook-header", "X-Token=t", "--drain", "--retry-policy", "fixed:0s")

    assert [(tmp_path / "file").read_bytes()] * 2 == [request.body for request in receiver.requests]
    assert "t" == receiver.requests[0].headers["X-Token"]
    assert [] == cli("ls", "-q").lines


def test_policies_have_names(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "retryspool.toml").write_text(
        '[retry_policies]\nslow = "fixed:1d,jitter=0"\n[queue]\nretry_policy = "slow"'
    )
    by_file = put(queue, State.INCOMING)

    cli("work", "--exec", "exit 75", "--drain")
    by_option = put(queue, State.INCOMING)
    cli("work", "--exec", "exit 75", "--drain", "--policy", "slower=fixed:2d,jitter=0", "--retry-policy", "slower")

    for message_id, days in ((by_file, 1), (by_option, 2)):
        record = queue.get(message_id)
        assert days == round((record.next_retry - record.updated).total_seconds() / 86400)


def test_routes_have_limits(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    """Each of the two is dead after its first failure: by the file, by the option before the file."""
    (tmp_path / "retryspool.toml").write_text(
        '[routes]\n"*.example" = "dead_after:0.1,rest:1d"\n"b.example" = "dead_after:1000"', encoding="utf-8"
    )
    for route in ("a.example", "b.example", "c.test"):
        for _ in range(20):
            put(queue, State.INCOMING, route=route)

    result = cli(
        *("work", "--exec", "exit 75", "--drain", "--concurrency", "1", "--json"),
        *("--route", "b.example=dead-after:0.2,rest:1d", "--route", "c.test=dead_after:1000"),
    )

    tried = Counter(record.route for record in queue.iter(State.DEFERRED) if record.attempts)
    assert {"a.example": 1, "b.example": 1, "c.test": 20} == tried
    assert 1 + 1 + 20 == result.json["deferred"]
    assert {"a.example", "b.example"} == set(result.json["resting"])
    assert "exit code 75" in result.json["resting"]["a.example"]


def test_the_report_names_destinations_that_take_nothing(cli: Cli, queue: Queue) -> None:
    put(queue, State.INCOMING, route="down.example")

    result = cli("work", "--exec", "echo closed; exit 75", "--drain", "--route", "*=dead_after:0.1")

    assert (
        "route 'down.example' takes nothing: RetryableError: exit code 75 (EX_TEMPFAIL, try again later): closed"
        in result.err
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "deliver where?"),
        (("--exec", "true", "--webhook", "http://x"), "messages go to one place"),
        (("--handler", "nocolon"), "write module:callable"),
        (("--handler", "no_such_module:x"), "there is no module 'no_such_module' here"),
        (("--handler", "json:nothing"), "json has no 'nothing'"),
        (("--handler", "json:__name__"), "it can't be called"),
        (("--webhook", "ftp://x"), "is not a URL to post to"),
        (("--smtp", "a:b"), "is not an address"),
        (("--exec", "true", "--retry-policy", "fixed:soon"), "write fixed:30s"),
        (("--exec", "true", "--retry-policy", "unknown"), "must be one of 'exponential'"),
        (("--exec", "true", "--policy", "fixed:1s"), "is not a named retry policy"),
        (("--exec", "true", "--route", "rate:1/s"), "doesn't say what applies to a route"),
        (("--exec", "true", "--route", "a=rate:often"), "write rate:10/minute"),
        (("--exec", "true", "--concurrency", "0"), "concurrency is 0; it must be"),
        (("--exec", "true", "--lease", "1ms"), "lease_s is 0.001; it must be"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_delivered(
    options: tuple[str, ...], message: str, cli: Cli, queue: Queue
) -> None:
    message_id = put(queue, State.INCOMING)

    result = cli("work", "--drain", *options)

    assert 2 == result.code
    assert message in result.err
    assert 0 == queue.get(message_id).deliveries


@pytest.mark.usefixtures("queue")
def test_a_module_that_fails_to_import_something_else_says_what(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken_handler.py").write_text("import no_such_thing")

    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        cli("work", "--handler", "broken_handler:x", "--drain")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_deliveries_end(
    number: int, queue: Queue, tmp_path: Path, worker_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    put(queue, State.INCOMING)

    worker = worker_process("--exec", f"touch {started}; until [ -e {go} ]; do sleep 0.02; done")
    wait_for(started.exists)
    worker.send_signal(number)
    go.touch()
    out, err = worker.communicate()

    assert (0, b"") == (worker.returncode, out)
    assert b"1 delivered" in err
    assert 0 == sum(queue.counts().values())


def test_what_does_not_end_in_time_is_killed_and_delivered_again(
    queue: Queue, tmp_path: Path, worker_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    message_id = put(queue, State.INCOMING)
    pid = tmp_path / "pid"

    worker = worker_process(
        "--exec", f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 1000", "--grace", "0.2s", "--lease", "1s"
    )
    wait_for(pid.exists)
    worker.terminate()
    _, err = worker.communicate()

    assert 0 == worker.returncode, err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert queue.get(message_id).state in {State.ACTIVE, State.DEFERRED, State.INCOMING}


def test_a_killed_workers_message_goes_to_another(
    queue: Queue, cli: Cli, tmp_path: Path, worker_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    message_id = put(queue, State.INCOMING)
    started = tmp_path / "started"

    worker = worker_process("--exec", f"touch {started}; sleep 3", "--lease", "1s")
    wait_for(started.exists)
    worker.kill()
    worker.communicate()
    wait_for(
        lambda: cli("work", "--exec", "true", "--drain", "--on-success", "archive", "--json").json["delivered"] == 1
    )

    record = queue.get(message_id)
    assert (State.ARCHIVED, 2, 0) == (record.state, record.deliveries, record.attempts)
