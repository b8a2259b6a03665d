import mailbox
import os
import pty
import re
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from retryspool import MessageNotFoundError, Queue, State

from .conftest import Cli, put, wait_for


def test_messages_are_migrated(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    ids = [put(queue, state, route="a") for state in (State.INCOMING, State.HOLD, State.BOUNCE)]
    kept = put(queue, State.HOLD, route="b")
    there = tmp_path / "there"

    counted = cli("migrate", "--to", there, "--route", "a", "--dry-run", "--json").json
    document = cli("migrate", "--to", there, "--route", "a", "--json").json

    assert (3, 3) == (counted["messages"], document["messages"])
    assert {"messages": 3, "size": 21, "finished": 0, "begun_anew": 0, "busy": 0, "failed": {}} == document
    assert [kept] == cli("ls", "-q").lines
    assert set(ids) == set(cli("--spool", there, "ls", "-q").lines)
    assert (
        "1 message moved, 7 B\n"
        == cli("migrate", "--to-meta", f"fs:{there}/meta", "--to-data", f"fs:{there}/data").text
    )


def test_payloads_are_encoded_on_the_way_as_the_target_is_to_have_them(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    message_id = put(queue, State.HOLD, b"x" * 10_000)

    assert 0 == cli("migrate", "--to", tmp_path / "there", "--to-middleware", "gzip").code
    assert (
        "gzip"
        == cli("--spool", tmp_path / "there", "show", message_id, "--json").json["headers"]["x-retryspool-encoding"]
    )
    assert b"x" * 10_000 == cli("--spool", tmp_path / "there", "cat", message_id).out


def test_a_dry_run_makes_no_target(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    put(queue, State.HOLD)

    assert "1 message would be moved, 7 B\n" == cli("migrate", "--to", tmp_path / "there", "--dry-run").text
    assert not (tmp_path / "there").exists()


def test_what_cannot_be_moved_is_told(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    message_id = put(queue, State.HOLD)
    with Queue.open(tmp_path / "there") as there:
        there.enqueue(b"another", message_id=message_id)

    result = cli("migrate", "--to", tmp_path / "there")

    assert (1, "0 messages moved, 0 B\n", "Error: 1 message: message … exists already\n") == (
        result.code,
        result.text,
        result.err,
    )


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize("where", [(), ("--to-meta", "memory:"), ("--to", "x", "--to-data", "memory:")])
def test_a_migration_needs_a_whole_target(cli: Cli, where: tuple[str, ...]) -> None:
    assert 2 == cli("migrate", *where).code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_migration_follows_until_a_signal(queue: Queue, spool: Path, tmp_path: Path, number: int) -> None:
    put(queue, State.HOLD)
    command = [
        sys.executable,
        "-m",
        "retryspool_cli",
        "--spool",
        spool,
        "migrate",
        "--to",
        tmp_path / "there",
        "--follow",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: queue.count(State.HOLD) == 0)
        put(queue, State.DEFERRED)
        wait_for(lambda: queue.count(State.DEFERRED) == queue.count(State.ACTIVE) == 0)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=30)

    assert (0, "2 messages moved, 14 B\n") == (process.returncode, printed)


@pytest.mark.parametrize("name", ["out", "out.mbox", "out.tar", "out.tgz"])
def test_what_is_exported_can_be_imported(cli: Cli, queue: Queue, tmp_path: Path, name: str) -> None:
    ids = {put(queue, State.BOUNCE, headers={"to": "you"}), put(queue, State.BOUNCE, b"From me\n")}
    put(queue, State.HOLD)

    exported = cli("export", tmp_path / name, "--state", "bounce", "--json").json
    imported = cli("--spool", tmp_path / "there", "import", tmp_path / name, "--json").json
    again = cli("--spool", tmp_path / "there", "import", tmp_path / name)

    assert {"messages": 2, "size": 15, "existing": 0, "gone": 0, "failed": {}} == exported
    assert {"messages": 2, "size": 15, "existing": 0, "aside": {}} == imported
    assert (0, "0 messages imported, 0 B\n", "2 messages there already\n") == (again.code, again.text, again.err)
    with Queue.open(tmp_path / "there") as there:
        assert ids == {record.id for record in there.iter(State.BOUNCE)}


def test_a_format_may_be_named(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    put(queue, State.HOLD)
    for kind in ("folder", "maildir", "mbox", "tar"):
        assert "1 message exported, 7 B\n" == cli("export", tmp_path / kind, "--format", kind).text

    assert 1 == len(mailbox.Maildir(tmp_path / "maildir"))
    assert tarfile.is_tarfile(tmp_path / "tar")
    assert (tmp_path / "mbox").read_bytes().startswith(b"From ")
    for kind in ("folder", "maildir", "mbox", "tar"):
        assert "1 message there already\n" == cli("import", tmp_path / kind).err
    assert 2 == cli("export", tmp_path / "tar", "--format", "tar").code


def test_files_are_imported_with_what_the_options_say(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/a.eml").write_bytes(b"mail")
    (tmp_path / "in/deep/b.eml").write_bytes(b"mail")
    (tmp_path / "in/link").symlink_to("/etc/passwd")

    options = ("-H", "to=you", "--route", "r", "--priority", "1", "--max-attempts", "3", "--hold")
    dry = cli("import", tmp_path / "in", "--dry-run")
    result = cli("import", tmp_path / "in", *options)
    deep = cli("import", tmp_path / "in", "--deep", *options, "--retry-policy", "exponential")

    assert "1 message would be imported\n" == dry.text
    assert (1, "1 message imported, 4 B\n") == (result.code, result.text)
    assert f"Error: {tmp_path}/in/link: a symbolic link\n" == result.err
    assert "1 message imported, 4 B\n" == deep.text
    record = queue.get("a.eml")
    assert (State.HOLD, {"to": "you"}, "r", 1, 3) == (
        record.state,
        dict(record.headers),
        record.route,
        record.priority,
        record.max_attempts,
    )
    assert 2 == cli("import", tmp_path / "in", "--retry-policy", "unknown").code


def test_what_a_source_is_is_seen(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    for name in ("incoming", "deferred/A"):
        (tmp_path / "queue" / name).mkdir(parents=True)
    (tmp_path / "queue/deferred/A/A1").write_bytes(b"x")
    mailbox.Maildir(tmp_path / "maildir").add("Subject: x\n\nx\n")
    (tmp_path / "single").write_bytes(b"a single file")

    assert 0 == cli("import", tmp_path / "queue").code
    assert 0 == cli("import", tmp_path / "maildir").code
    assert State.DEFERRED is queue.get("A1").state
    assert 1 == queue.count(State.INCOMING)
    assert "neither a folder, nor a mailbox, nor a tar archive" in (refused := cli("import", tmp_path / "single")).err
    assert 2 == refused.code == cli("import", tmp_path / "queue", "--deep").code == cli("import", "nowhere").code


def test_messages_are_exported_before_they_are_deleted(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    named, first, second = (put(queue, State.BOUNCE) for _ in range(3))
    damaged = put(queue, State.BOUNCE)
    queue.spool.data.delete_data(damaged)

    assert 0 == cli("rm", named, "--export", tmp_path / "out").code
    result = cli("rm", "--all", "--state", "bounce", "--yes", "--export", tmp_path / "out")
    assert 1 == cli("rm", damaged, "--export", tmp_path / "out").code

    assert "2 messages deleted\n" == result.text
    assert "1 message kept, for the export failed" in result.err
    assert [damaged] == cli("ls", "-q").lines
    cli("import", tmp_path / "out")
    assert {named, first, second} <= {record.id for record in queue.iter(State.BOUNCE)}


def test_a_spool_that_is_worked_is_waited_for(cli: Cli, queue: Queue, spool: Path) -> None:
    put(queue, State.HOLD)
    message_id = put(queue, State.INCOMING)

    late = cli("wait", "--timeout", "300ms")
    assert (1, "Error: 1 message still in incoming, active, deferred\n") == (late.code, late.err)
    with Queue.open(spool) as other:
        deleting = Thread(target=other.delete, args=(message_id,))
        deleting.start()
        assert 0 == cli("wait", "--timeout", "30s").code
        deleting.join()
    with pytest.raises(MessageNotFoundError):
        queue.get(message_id)
    assert 0 == cli("wait", "bounce").code


def test_a_shape_is_by_route_and_age(cli: Cli, queue: Queue) -> None:
    old = queue.get(put(queue, State.DEFERRED, route="slow"))
    queue.spool.meta.update_meta(old.id, replace(old, created=old.created.replace(year=old.created.year - 1)))
    put(queue, State.DEFERRED, route="slow")
    put(queue, State.INCOMING, route="\x1b[31m")
    put(queue, State.HOLD, route="slow")

    lines = [line.split() for line in cli("shape").lines]
    documents = cli("shape", "--json").json_lines

    assert ["ROUTE", "TOTAL", "5", "10", "20", "40", "80", "160", "320", "640", "1280", "1280+"] == lines[0]
    assert ["TOTAL", "3", "2", *".......", ".", "1"] == lines[1]
    assert ["slow", "2", "1", *".......", ".", "1"] == lines[2]
    assert "\\x1b[31m" == lines[3][0]
    assert ("slow", 2, 1, 1) == (
        documents[0]["value"],
        documents[0]["total"],
        documents[0]["ages"]["5"],
        documents[0]["ages"]["1280+"],
    )
    assert 1 == len(cli("shape", "hold", "--by", "state").lines[2:])
    assert "1 of 2 lines" in cli("shape", "-n", "1").err


def test_progress_is_shown_on_a_terminal(queue: Queue, spool: Path) -> None:
    for _ in range(20):
        put(queue, State.HOLD)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "retryspool_cli", "--spool", spool, "release", "--all", "--state", "hold", "--yes"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    ) as process:
        os.close(theirs)
        printed, _ = process.communicate(timeout=30)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)

    assert b"20 messages released\n" == printed
    assert re.search(r"release .*\d+/20", shown)
