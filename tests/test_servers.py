"""The servers of a test run: one of each kind, for all of its workers, and none afterwards."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SUPPORT = Path(__file__).with_name("support")
PATIENCE_S = 20
MANY = """
import pathlib, pytest
@pytest.mark.parametrize("number", range(2))
def test_it(redis_url, number, worker_id):
    pathlib.Path(f"{worker_id}-{number}.url").write_text(redis_url)
    pathlib.Path(f"worker-{worker_id}").touch()
"""
HANGS = """
import os, pathlib, time
def test_it(redis_url):
    pathlib.Path("0.part").write_text(redis_url)
    os.replace("0.part", "0.url")
    time.sleep(50)
"""
CRASHES = """
import os, pathlib
def test_it(redis_url):
    pathlib.Path("0.url").write_text(redis_url)
    os._exit(1)
def test_other(redis_url):
    pathlib.Path("1.url").write_text(redis_url)
"""
CHOICE = """
def test_redis(redis_url): pass
def test_pg(new_postgres): pass
def test_s3(moto_url): pass
def test_none(): pass
"""
OWN = """
def test_it(redis_url, pg_url, s3_url):
    assert ("redis://mine/3", "pg://me@mine/db", "s3://bucket?region=x") == (redis_url, pg_url, s3_url)
"""
FAILS = """
import retryspool_cli.servers.redis as redis
def test_it(monkeypatch, request):
    monkeypatch.setitem(redis._SETTINGS, "appendfsync", "perhaps")
    request.getfixturevalue("redis_url")
"""
Run = subprocess.Popen[str]


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    started: list[Run] = []
    yield started
    for run in started:
        run.kill()
        run.communicate()


def run(tests: str, folder: Path, runs: list[Run], *options: str, **env: str) -> Run:
    """Start pytest on a file of tests."""
    (folder / "test_file.py").write_text(tests)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "servers",
        "-p",
        "no:randomly",
        "-c",
        "/dev/null",
        "--rootdir",
        ".",
    ]
    started = subprocess.Popen(
        [*command, *options, "test_file.py"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(SUPPORT), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    runs.append(started)
    return started


def finish(run: Run, code: int) -> str:
    output, _ = run.communicate(timeout=50)
    assert code == run.returncode, output
    return output


def is_up(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.removesuffix("/0").rpartition(":")[2]))) == 0


def wait_until(happened: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < until, what
        threading.Event().wait(0.02)


@pytest.mark.parametrize("options", [("-n", "3", "--dist=each"), ()], ids=["three-workers", "alone"])
def test_all_workers_share_one_server_that_is_gone_after_the_run(
    options: tuple[str, ...], tmp_path: Path, runs: list[Run]
) -> None:
    (tmp_path / "run").mkdir()
    finish(run(MANY, tmp_path, runs, *options, TMPDIR=str(tmp_path / "run")), 0)

    (url,) = {path.read_text() for path in tmp_path.glob("*.url")}
    assert (3 if options else 1) == len(list(tmp_path.glob("worker-*")))
    assert not is_up(url)
    assert [] == list((tmp_path / "run").glob("*retryspool*"))


def test_the_server_is_gone_when_the_run_is_killed(tmp_path: Path, runs: list[Run]) -> None:
    (tmp_path / "run").mkdir()
    killed = run(HANGS, tmp_path, runs, "-n", "1", TMPDIR=str(tmp_path / "run"))
    wait_until((tmp_path / "0.url").exists, "the test never began")
    url = (tmp_path / "0.url").read_text()
    assert is_up(url)

    os.killpg(killed.pid, signal.SIGKILL)

    wait_until(lambda: not is_up(url), "the server is still there")
    (left,) = (tmp_path / "run").glob("retryspool-tests-*")
    finish(run(MANY, tmp_path, runs, TMPDIR=str(tmp_path / "run")), 0)
    assert not left.exists(), "the next run tidies up"


def test_the_server_outlives_the_worker_that_started_it(tmp_path: Path, runs: list[Run]) -> None:
    output = finish(run(CRASHES, tmp_path, runs, "-n", "1"), 1)

    assert "1 failed, 1 passed" in output
    assert (tmp_path / "0.url").read_text() == (tmp_path / "1.url").read_text()
    assert not is_up((tmp_path / "0.url").read_text())


@pytest.mark.parametrize("mark", ["redis", "pg", "s3"])
def test_a_server_can_be_left_out_by_its_mark(mark: str, tmp_path: Path, runs: list[Run]) -> None:
    output = finish(run(CHOICE, tmp_path, runs, "--collect-only", "-q", "--strict-markers", "-m", f"not {mark}"), 0)

    left = {line.partition("::test_")[2] for line in output.splitlines() if "::" in line}
    assert {"redis", "pg", "s3", "none"} - {mark} == left


def test_the_environment_names_servers_of_ones_own(tmp_path: Path, runs: list[Run]) -> None:
    own = {"REDIS_TEST_URL": "redis://mine/3", "POSTGRES_TEST_DSN": "postgresql://me@mine/db"}

    finish(run(OWN, tmp_path, runs, S3_TEST_ENDPOINT="s3://bucket?region=x", **own), 0)


def test_a_server_that_does_not_start_fails_the_test_and_shows_its_log(tmp_path: Path, runs: list[Run]) -> None:
    output = finish(run(FAILS, tmp_path, runs), 1)

    assert "1 failed" in output
    assert "its log ends with" in output
