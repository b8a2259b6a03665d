from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from retryspool import MessageMetadata, Queue, QueueOptions, Spool, State
from retryspool.memory import MemoryDataFactory, MemoryMetaFactory
from retryspool_cli.handlers.targets import stop_handler
from retryspool_cli.main import run


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.lines]


Cli = Callable[..., Result]
Deliver = Callable[..., MessageMetadata]


@pytest.fixture(autouse=True)
def clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but a test's own."""
    for name in list(os.environ):
        if name.startswith("RETRYSPOOL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cli(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run the command in this process."""

    def call(*arguments: str | Path, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsysbinary.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsysbinary.readouterr()
        return Result(code, captured.out, captured.err.decode())

    return call


@pytest.fixture
def process(tmp_path: Path) -> Cli:
    """Run the command as users do, in a process of its own."""

    def call(*arguments: str | Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "retryspool_cli", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            timeout=50,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    return call


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spool, named by the environment."""
    folder = tmp_path / "spool"
    Queue.open(folder).close()
    monkeypatch.setenv("RETRYSPOOL_SPOOL", str(folder))
    return folder


@pytest.fixture
def queue(spool: Path) -> Generator[Queue]:
    with Queue.open(spool) as queue:
        yield queue


@pytest.fixture
def deliver() -> Deliver:
    """Deliver one message by a handler, and return its record, archived where it was delivered."""

    def call(handler: Callable[..., None], payload: bytes = b"payload", **fields: Any) -> MessageMetadata:
        spool = Spool(MemoryMetaFactory().create(), MemoryDataFactory().create())
        with Queue(spool, QueueOptions(on_success="archive", concurrency=2)) as queue:
            message_id = queue.enqueue(payload, **fields).id
            queue.add_handler(handler)
            queue.run(until_idle=True)
            stop_handler(handler)
            return queue.get(message_id)

    return call


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait; that it never comes is found by the test's time limit."""
    while not condition():
        threading.Event().wait(0.01)


def put(queue: Queue, state: State, payload: bytes = b"payload", **fields: Any) -> str:
    """Store a message in a state, without a worker."""
    record = queue.enqueue(payload, **fields)
    if state is not State.INCOMING:
        queue.spool.meta.update_meta(record.id, replace(record, state=state))
    return record.id
