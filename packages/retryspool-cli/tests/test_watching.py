"""A worker's process as others see it: its endpoint, `retryspool health`, and its log as JSON."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from retryspool import Queue, State
from retryspool_cli.logs import JsonFormatter

from .conftest import Cli, put, wait_for


@contextmanager
def working(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "retryspool_cli", "work", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    match = re.search(r"metrics at (http://127\.0\.0\.1:\d+)/metrics", process.stderr.readline())
    assert match
    return match[1]


def test_a_worker_is_asked_for_its_health(cli: Cli, queue: Queue) -> None:
    del queue
    with working("--exec", "true", "--metrics", "0") as process:
        url = url_of(process)
        wait_for(lambda: cli("health", url).code == 0)

        assert "ready" == cli("health", url).err.strip()
        assert "alive" == cli("health", f"{url}/healthz").err.strip()
        assert {"ready", "records", "payloads", "worker", "paused"} == set(cli("health", url, "--json").json)

        process.terminate()
        assert 0 == process.wait(20)
        result = cli("health", url)
        assert 1 == result.code
        assert url in result.err


def test_a_worker_that_stops_is_not_ready_but_alive(cli: Cli, queue: Queue, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    put(queue, State.INCOMING)
    command = f"touch {started}; until [ -e {go} ]; do sleep 0.02; done"
    with working("--exec", command, "--metrics", "0") as process:
        url = url_of(process)
        wait_for(started.exists)
        process.terminate()
        wait_for(lambda: cli("health", url).code == 1)
        alive, ready = cli("health", f"{url}/healthz"), cli("health", url)
        go.touch()
        assert 0 == process.wait(20)

    assert (0, 1) == (alive.code, ready.code)
    assert "worker: it takes no messages" in ready.err


def test_a_spool_is_asked_for_its_health(cli: Cli, queue: Queue) -> None:
    queue.pause()

    result = cli("health", "--json")

    assert 0 == result.code
    assert {"ready": True, "records": "ok", "payloads": "ok", "worker": "unknown", "paused": True} == result.json
    assert "ready" == cli("health").err.strip()


def test_who_does_not_answer_is_not_ready(cli: Cli) -> None:
    result = cli("health", "http://127.0.0.1:1", "--timeout", "1s")

    assert 1 == result.code
    assert result.err.startswith("Error: http://127.0.0.1:1: ")


@pytest.mark.parametrize("url", ["nonsense", "http://[", "ftp://127.0.0.1/", "http://"])
def test_what_is_no_url_to_ask_at_is_refused(url: str, cli: Cli) -> None:
    result = cli("health", url)

    assert 2 == result.code
    assert "is not a URL to ask at" in result.err


def test_a_server_of_another_kind_is_not_ready(cli: Cli, queue: Queue) -> None:
    del queue

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[]" if self.path == "/list" else b"<html>")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name in the base class
            del format, args

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        codes = [cli("health", f"http://127.0.0.1:{server.server_port}{path}").code for path in ("", "/list")]
        server.shutdown()

    assert [1, 1] == codes


def test_a_spool_whose_store_is_out_of_reach_is_not_ready(cli: Cli) -> None:
    redis = "redis://127.0.0.1:1/0"

    result = cli("--meta", redis, "--data", "memory:x", "health", "--timeout", "2s")

    assert 1 == result.code


@pytest.fixture
def log(queue: Queue, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Work until idle; returns the lines of the log."""
    del queue, tmp_path

    def work(*arguments: str) -> list[dict[str, Any]]:
        with working("--drain", "--log-format", "json", *arguments) as process:
            _, err = process.communicate(timeout=50)
        return [json.loads(line) for line in err.splitlines() if line.startswith("{")]

    return work


def test_each_settlement_is_a_line_of_json(queue: Queue, log: Callable[..., list[dict[str, Any]]]) -> None:
    good = put(queue, State.INCOMING, b"good", route="example.com")
    bad = put(queue, State.INCOMING, b"b\xc3\xa4d")

    lines = log("--exec", "grep -q good || { echo no >&2; exit 65; }")

    settled = {line["message_id"]: line for line in lines if "outcome" in line}
    assert {good, bad} == set(settled)
    assert ("delivered", "deleted", "incoming", "example.com", 0, 1, "", "debug") == tuple(
        settled[good][each]
        for each in ("outcome", "became", "claimed_from", "route", "attempts", "deliveries", "error", "level")
    )
    assert ("bounced", "bounce", 1) == tuple(settled[bad][each] for each in ("outcome", "became", "attempts"))
    assert "EX_DATAERR" in settled[bad]["error"]
    assert settled[good]["seconds"] > 0
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    assert {"retryspool.queue.worker", "retryspool.queue.settler"} <= {line["logger"] for line in lines}


def test_a_record_of_the_log_is_one_line_whatever_is_in_it() -> None:
    with pytest.raises(ValueError, match="one") as caught:
        int("one\ntwo")
    error = (caught.type, caught.value, caught.tb)
    record = logging.getLogger("x").makeRecord(
        "x", logging.ERROR, "f", 1, "a\n%s", ("ü\x1b",), error, extra={"path": Path("p")}
    )

    text = JsonFormatter().format(record)
    line = json.loads(text)

    assert text.isascii()
    assert "\n" not in text
    assert ("a\nü\x1b", "error", "p") == (line["message"], line["level"], line["path"])
    assert "ValueError: invalid literal" in line["traceback"]
