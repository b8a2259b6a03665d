"""The servers of tests, as a pytest plugin: one of each kind a run, shared by its workers, started when asked for.

They stop when the run ends, be it by a crash: each runs until nobody holds the run's FIFO any more, which the process
that pytest was started as does. `REDIS_TEST_URL`, `POSTGRES_TEST_DSN` and `S3_TEST_ENDPOINT` name servers of one's own.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from retryspool_cli.servers import MotoServer, PostgresServer, RedisServer, S3Server, Server

_MARKS = {
    "redis": ("redis_url", "new_redis"),
    "pg": ("pg_url", "new_postgres"),
    "s3": ("s3_url", "new_s3", "moto_url", "new_moto"),
}
"""The marks that a test gets by what it asks for: `-m "not pg"` leaves a server out."""
_PATIENCE_S = 15
_RUN = pytest.StashKey["_Run"]()
_started: list[Server] = []
"""What this worker has started for the run: kept, so that it isn't taken for a process that was left behind."""


class _Run:
    """One run of pytest, in the process that it was started as: its folder, and the FIFO that its servers wait on."""

    def __init__(self) -> None:
        new = Path(tempfile.mkdtemp(prefix="new-retryspool-tests-"))
        os.mkfifo(new / "fifo")
        self._held = os.open(new / "fifo", os.O_RDWR)
        _sweep(new.parent)
        self.folder = new.rename(
            new.with_name(new.name.removeprefix("new-"))
        )  # so that nobody sees one that isn't held

    def end(self) -> None:
        """Let the servers go, and wait until they're gone."""
        os.close(self._held)
        folders = [Path(json.loads(path.read_text())["folder"]) for path in self.folder.glob("*.json")]
        until = time.monotonic() + _PATIENCE_S
        while any(folder.exists() for folder in folders) and time.monotonic() < until:
            threading.Event().wait(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)  # another run may sweep it, now that nobody holds it


def _sweep(folder: Path) -> None:
    """Remove what is left of runs that were killed."""
    for left in folder.glob("retryspool-tests-*"):
        with suppress(OSError):
            reader = os.open(left / "fifo", os.O_RDONLY | os.O_NONBLOCK)
            try:
                if os.read(reader, 1) == b"":  # BlockingIOError if somebody holds it
                    shutil.rmtree(left)
            finally:
                os.close(reader)


def pytest_configure(config: pytest.Config) -> None:
    for mark in _MARKS:
        config.addinivalue_line(
            "markers", f"{mark}: needs that server; a test that asks for its fixture is marked by itself"
        )
    if not hasattr(config, "workerinput"):
        config.stash[_RUN] = _Run()


def pytest_unconfigure(config: pytest.Config) -> None:
    if (run := config.stash.get(_RUN, None)) is not None:
        run.end()
    if _started:  # they end with the run, and go on when this worker ends
        warnings.simplefilter("ignore", ResourceWarning)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the run's folder is."""
    node.workerinput["servers"] = str(node.config.stash[_RUN].folder)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        for mark, fixtures in _MARKS.items():
            if names.intersection(fixtures):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def shared_server(request: pytest.FixtureRequest) -> Callable[[type[Server]], str]:
    """Return the URL of the run's server of a kind; who asks first starts it, while the others wait."""
    config = request.config
    workerinput = getattr(config, "workerinput", None)
    folder = Path(workerinput["servers"]) if workerinput is not None else config.stash[_RUN].folder

    def url(kind: type[Server]) -> str:
        about = folder / f"{kind.__name__}.json"
        with about.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if about.exists():
                return json.loads(about.read_text())["url"]
            server = kind(keep_until=folder / "fifo").start()
            _started.append(server)
            about.write_text(json.dumps({"url": server.url, "folder": str(server.folder)}))
            return server.url

    return url


@pytest.fixture(scope="session")
def redis_url(shared_server: Callable[[type[Server]], str]) -> str:
    """A Redis that loses nothing, shared by all tests: use a prefix of your own."""
    return os.environ.get("REDIS_TEST_URL") or shared_server(RedisServer)


@pytest.fixture(scope="session")
def pg_url(shared_server: Callable[[type[Server]], str]) -> str:
    """A PostgreSQL, shared by all tests: use a table of your own."""
    dsn = os.environ.get("POSTGRES_TEST_DSN", "")
    if not dsn:
        return shared_server(PostgresServer)
    scheme, _, rest = dsn.partition("://")
    assert scheme in {"pg", "postgres", "postgresql"}, "POSTGRES_TEST_DSN is written postgresql://…"
    return f"pg://{rest}"


@pytest.fixture(scope="session")
def s3_url(shared_server: Callable[[type[Server]], str]) -> str:
    """An S3 server's bucket, shared by all tests: use a prefix of your own.

    `S3_TEST_ENDPOINT` is the backend's whole URL (s3://…), or an endpoint (http://…) that has a bucket `retryspool` and
    takes the credentials of the environment.
    """
    endpoint = os.environ.get("S3_TEST_ENDPOINT", "")
    if endpoint.startswith("s3://"):
        return endpoint
    if endpoint:
        return f"s3://retryspool?endpoint={endpoint}&region=us-east-1&addressing=path"
    return shared_server(S3Server)


@pytest.fixture(scope="session")
def moto_url(shared_server: Callable[[type[Server]], str]) -> str:
    """A bucket of Moto's server, with the errors of AWS, shared by all tests: use a prefix of your own."""
    return shared_server(MotoServer)


@pytest.fixture
def new_redis() -> Iterator[Callable[..., RedisServer]]:
    """Start a Redis of the test's own, to stop and to restart; takes the class's arguments."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(RedisServer(**options))


@pytest.fixture
def new_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """Start a PostgreSQL of the test's own, to stop and to restart; takes the class's arguments."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(PostgresServer(**options))


@pytest.fixture
def new_s3() -> Iterator[Callable[..., S3Server]]:
    """Start an S3 server of the test's own, to stop and to restart; takes the class's arguments."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(S3Server(**options))


@pytest.fixture
def new_moto() -> Iterator[Callable[..., MotoServer]]:
    """Start a Moto server of the test's own, to stop and to restart; takes the class's arguments."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(MotoServer(**options))
