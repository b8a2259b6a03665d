import os
from datetime import timedelta
from pathlib import Path
from threading import Event
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from retryspool import Queue, State
from retryspool.model import utc_now

from .conftest import Cli, put


def test_a_spool_in_order_is_in_order(cli: Cli, queue: Queue) -> None:
    put(queue, State.HOLD)

    assert (0, b"") == (cli("reconcile").code, cli("reconcile", "--json").out)
    assert 0 == cli("check").code


def test_a_payload_that_lost_its_record_is_swept(cli: Cli, queue: Queue) -> None:
    queue.spool.data.store_data("orphan", b"12345")

    assert 0 == cli("reconcile").code, "it may belong to an enqueue that is under way"
    only_said = cli("reconcile", "--grace", "0", "--dry-run", "--json")
    swept = cli("reconcile", "--grace", "0")

    expected = {"kind": "orphan payload", "id": "orphan", "size": 5, "state": None, "removed": False}
    assert (3, expected) == (only_said.code, only_said.json)
    assert 3 == swept.code
    assert ["orphan", "payload", "orphan", "5", "B", "-", "yes"] == swept.lines[1].split()
    assert 0 == cli("reconcile", "--grace", "0").code


def test_a_record_that_lost_its_payload_is_reported(cli: Cli, queue: Queue) -> None:
    message_id = put(queue, State.HOLD)
    queue.spool.data.delete_data(message_id)

    result = cli("reconcile", "--json")

    assert (3, "missing payload", message_id, "hold") == (
        result.code,
        result.json["kind"],
        result.json["id"],
        result.json["state"],
    )


def test_an_upload_that_was_never_finished_is_swept(cli: Cli, moto_url: str, tmp_path: Path) -> None:
    server = {name: value for name, (value,) in parse_qs(urlsplit(moto_url).query).items()}
    client = boto3.client(
        "s3",
        endpoint_url=server["endpoint"],
        region_name=server["region"],
        aws_access_key_id=server["access_key"],
        aws_secret_access_key=server["secret_key"],
    )
    client.create_multipart_upload(Bucket=urlsplit(moto_url).hostname or "", Key="care/abandoned.data")
    arguments = ("--meta", f"fs:{tmp_path}/meta", "--data", f"{moto_url}&namespace=care", "--grace", "0s")

    reported = cli("reconcile", *arguments, "--dry-run", "--json")
    swept = cli("reconcile", *arguments)
    again = cli("reconcile", *arguments)

    found = {"kind": "unfinished payload", "id": "abandoned", "size": 0, "state": None, "removed": False}
    assert (3, [found]) == (reported.code, reported.json_lines)
    assert 3 == swept.code
    assert "unfinished payload abandoned 0 B - yes" == " ".join(swept.lines[1].split())
    assert (0, []) == (again.code, again.lines)


def test_a_record_that_cannot_be_read_is_found(cli: Cli, queue: Queue, spool: Path) -> None:
    message_id = put(queue, State.HOLD)
    (spool / "meta" / "hold" / f"{message_id}.json").write_text("{")

    result = cli("check", "--json")

    assert 3 == result.code
    assert any(line["severity"] in {"warning", "error"} for line in result.json_lines)
    assert {"severity", "subject", "text", "message_id"} == set(result.json_lines[0])
    assert "SEVERITY" in cli("check").text


def test_archived_messages_are_pruned_by_age(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    record = queue.get(put(queue, State.ARCHIVED))
    waiting = put(queue, State.HOLD)
    (tmp_path / "retryspool.toml").write_text("[queue]\nretention_s = 1000000")

    assert {"pruned": 0} == cli("prune", "--json").json
    while utc_now() - record.updated < timedelta(seconds=1.1):  # the shortest retention there is
        Event().wait(0.1)
    assert "1 message deleted\n" == cli("prune", "--older-than", "1s").text
    assert [waiting] == cli("ls", "-q").lines


def test_bounced_messages_are_pruned_by_age_too(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    record = queue.get(put(queue, State.BOUNCE))
    archived = put(queue, State.ARCHIVED)
    (tmp_path / "retryspool.toml").write_text("[queue]\nbounce_retention_s = 1")
    while utc_now() - record.updated < timedelta(seconds=1.1):  # the shortest retention there is
        Event().wait(0.1)

    assert {"pruned": 1} == cli("prune", "--json").json
    assert [archived] == cli("ls", "-q").lines


@pytest.mark.usefixtures("queue")
def test_pruning_needs_to_know_the_age(cli: Cli) -> None:
    assert 2 == cli("prune").code


def test_backends_are_listed(cli: Cli) -> None:
    document = cli("backends", "--json").json

    assert {"plugins", "failed"} == set(document)
    assert {"kind": "meta", "name": "fs", "distribution": "retryspool-fs-meta", "version": "0.1.0"} in document[
        "plugins"
    ]
    assert [] == document["failed"]
    assert ["data", "fs", "retryspool-fs-data", "0.1.0"] in [line.split() for line in cli("backends").lines]


def test_a_backend_that_is_broken_is_listed_with_its_error(process: Cli, tmp_path: Path) -> None:
    package = tmp_path / "site" / "broken-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[retryspool]\nbroken = no_such_module\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])}

    (failed,) = process("backends", "--json", env=environment).json["failed"]
    text = process("backends", env=environment).text

    assert ("broken", "broken") == (failed["entry_point"], failed["distribution"])
    assert "No module named 'no_such_module'" in failed["error"]
    assert "No module named 'no_such_module'" in text


def test_the_benchmark_measures_and_leaves_nothing(cli: Cli, queue: Queue, spool: Path) -> None:
    message_id = put(queue, State.HOLD)
    before = sorted(spool.iterdir())

    document = cli("bench", "--json", "--messages", "100", "--threads", "2", "--size", "10").json

    assert {"folder", "messages", "size", "threads", "figures"} == set(document)
    assert all(figure["rate"] > 0 for figure in document["figures"])
    assert {None, "half the safe creates, 1 thread", "half the safe creates, 2 threads", "renames", "removals"} == {
        figure["floor"] for figure in document["figures"]
    }
    assert before == sorted(spool.iterdir())
    assert [message_id] == cli("ls", "-q").lines
