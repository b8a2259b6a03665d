"""The suite's proxy, each fault as a client sees it, before a server that echoes."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retryspool.conformance.faults import (
    BLACK_HOLE,
    BROKEN_OFF,
    DELAY,
    DRIP,
    FAULTS,
    HALF_OPEN,
    LOST_REPLY,
    REFUSED,
    RESET_REPLY,
    RESET_REQUEST,
    Fault,
    Treatment,
)
from retryspool.conformance.proxy import Proxy
from retryspool.conformance.streams import Stream

SILENCE_S = 0.1
PATIENCE_S = 5


class Echo:
    """Answers each line with itself, and keeps what it got."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        self.lines: list[bytes] = []
        self.answers = threading.Event()
        self.answers.set()
        self.open: list[socket.socket] = []
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                self.threads.append(threading.Thread(target=self.serve, args=(connection,)))
                self.threads[-1].start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            for line in lines:
                self.lines.append(line)
                self.answers.wait(PATIENCE_S)
                connection.sendall(line)

    def stop(self) -> None:
        for each in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in list(self.threads):
            thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.stop()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(*echo.address) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[[], socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(socket.create_connection(proxy.address, PATIENCE_S))


Connect = Callable[[], socket.socket]


def ask(client: socket.socket, line: bytes = b"hello\n") -> bytes:
    """Return the reply, or what came of it until the connection ended."""
    client.sendall(line)
    reply = b""
    while not reply.endswith(b"\n") and (chunk := client.recv(65536)):
        reply += chunk
    return reply


def is_silent(client: socket.socket, *, ask_first: bool = True) -> bool:
    client.settimeout(SILENCE_S)
    try:
        if ask_first:
            client.sendall(b"hello\n")
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE_S)
    return False


def test_without_a_fault_everything_passes(connect: Connect) -> None:
    payload = os.urandom(3_000_000).replace(b"\n", b" ") + b"\n"
    client = connect()

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.sendall, payload)
        reply = client.makefile("rb").readline()
        sending.result()

    assert payload == reply


def test_an_end_of_the_stream_passes_too(connect: Connect) -> None:
    client = connect()
    client.sendall(b"last\n")
    client.shutdown(socket.SHUT_WR)

    assert b"last\n" == client.makefile("rb").read()


def test_delayed_connections_are_slower_and_work(proxy: Proxy, connect: Connect) -> None:
    proxy.inflict(DELAY)
    client = connect()
    begun = time.monotonic()

    assert b"hello\n" == ask(client)
    assert begun + 0.04 <= time.monotonic()


def test_a_drip_takes_its_time_and_loses_nothing(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    ask(client)
    proxy.inflict(DRIP)
    begun = time.monotonic()

    assert b"hello\n" == ask(client)
    assert begun + 2 * 0.05 <= time.monotonic()  # six bytes have five pauses, there and back


def test_a_drip_comes_a_byte_at_a_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = Stream(ours, theirs)
        stream.put(b"hello\n", Treatment.DRIP)
        for byte in b"hello\n":
            stream.pump(stream.chunks[0][0])

            assert bytes([byte]) == ours.recv(100)


def test_a_drip_ends_when_it_is_healed(proxy: Proxy, connect: Connect) -> None:
    proxy.inflict(DRIP)
    client = connect()
    client.sendall(b"x" * 100_000 + b"\n")  # a quarter of an hour
    proxy.heal()

    assert 100_001 == len(client.makefile("rb").readline())


def test_a_reset_before_the_request_keeps_it_from_the_server(proxy: Proxy, connect: Connect, echo: Echo) -> None:
    idle = connect()
    assert b"first\n" == ask(idle, b"first\n")
    proxy.inflict(RESET_REQUEST)

    for client in (idle, connect()):
        with pytest.raises(ConnectionResetError):
            ask(client)
    assert [b"first\n"] == echo.lines
    assert 2 == proxy.hits


def test_a_reset_before_the_reply_comes_after_the_server_has_done_it(
    proxy: Proxy, connect: Connect, echo: Echo
) -> None:
    client = connect()
    echo.answers.clear()
    proxy.inflict(RESET_REPLY)

    assert is_silent(client)  # it waits for the server
    echo.answers.set()

    with pytest.raises(ConnectionResetError):
        client.recv(100)
    assert [b"hello\n"] == echo.lines
    assert 1 == proxy.hits


def test_a_reply_that_is_broken_off_ends_as_if_in_order(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    proxy.inflict(BROKEN_OFF)

    assert b"hel" == ask(client)
    assert b"" == client.recv(1)


@pytest.mark.parametrize("fault", [RESET_REQUEST, RESET_REPLY, BROKEN_OFF], ids=str)
def test_a_fault_may_strike_once_after_some(proxy: Proxy, connect: Connect, fault: Fault) -> None:
    client = connect()
    proxy.inflict(fault.once_after(2))

    assert [b"a\n", b"b\n"] == [ask(client, b"a\n"), ask(client, b"b\n")]
    assert 0 == proxy.hits
    with contextlib.suppress(ConnectionResetError):
        assert b"hello\n" != ask(client)
    assert 1 == proxy.hits
    assert b"hello\n" == ask(connect())


@pytest.mark.parametrize("fault", [RESET_REQUEST, RESET_REPLY], ids=str)
def test_a_fault_may_strike_from_a_request_on(proxy: Proxy, connect: Connect, fault: Fault) -> None:
    proxy.inflict(fault.from_then_on(1))
    assert b"hello\n" == ask(connect())

    for _ in range(3):
        with pytest.raises(ConnectionResetError):
            ask(connect())


def test_what_is_spared_is_spared_whole(proxy: Proxy, connect: Connect) -> None:
    proxy.inflict(RESET_REQUEST.from_then_on(1))
    client = connect()
    client.sendall(b"in several ")
    assert is_silent(client, ask_first=False)
    client.sendall(b"pieces")
    assert is_silent(client, ask_first=False)

    assert b"in several pieces!\n" == ask(client, b"!\n")


def test_a_black_hole_accepts_and_never_answers(proxy: Proxy, connect: Connect, echo: Echo) -> None:
    idle = connect()
    ask(idle)
    proxy.inflict(BLACK_HOLE)

    assert is_silent(idle)
    assert is_silent(connect())
    assert [b"hello\n"] == echo.lines


def test_a_lost_reply_was_a_request_that_was_carried_out(proxy: Proxy, connect: Connect, echo: Echo) -> None:
    proxy.inflict(LOST_REPLY)

    assert is_silent(connect())
    assert [b"hello\n"] == echo.lines


def test_a_half_open_connection_is_not_told_that_its_server_is_gone(proxy: Proxy, connect: Connect, echo: Echo) -> None:
    idle = connect()
    ask(idle)
    proxy.inflict(HALF_OPEN)

    echo.threads[1].join(PATIENCE_S)  # the server's side of it has ended
    assert is_silent(idle)
    assert [b"hello\n"] == echo.lines
    assert not echo.threads[1].is_alive()


def test_half_open_means_that_new_connections_are_not_answered(proxy: Proxy) -> None:
    proxy.inflict(HALF_OPEN)

    for _ in range(3):
        with pytest.raises(TimeoutError):
            socket.create_connection(proxy.address, SILENCE_S)


def test_a_server_that_is_back_knows_nothing_of_half_open_connections(proxy: Proxy, connect: Connect) -> None:
    idle = connect()
    ask(idle)
    proxy.inflict(HALF_OPEN)
    proxy.heal()

    assert is_silent(idle, ask_first=False)
    with pytest.raises(ConnectionResetError):
        ask(idle)


def test_refused_means_that_nobody_listens(proxy: Proxy, connect: Connect) -> None:
    idle = connect()
    ask(idle)
    proxy.inflict(REFUSED)

    with pytest.raises(ConnectionRefusedError):
        connect()
    with pytest.raises(ConnectionResetError):
        idle.recv(1)


def test_a_cut_ends_idle_connections_and_no_new_one(proxy: Proxy, connect: Connect) -> None:
    idle = [connect() for _ in range(5)]
    for client in idle:
        ask(client)
    proxy.cut()

    for client in idle:
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            ask(client)
    assert b"hello\n" == ask(connect())


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_once_healed_new_connections_work_at_the_same_address(proxy: Proxy, connect: Connect, fault: Fault) -> None:
    for _ in range(2):
        proxy.inflict(fault)
        with contextlib.suppress(OSError), socket.create_connection(proxy.address, SILENCE_S) as client:
            is_silent(client)
        proxy.heal()
        assert b"hello\n" == ask(connect())


@pytest.mark.parametrize("fault", [BLACK_HOLE, LOST_REPLY], ids=str)
def test_a_connection_that_lost_bytes_never_comes_back(proxy: Proxy, connect: Connect, fault: Fault) -> None:
    client = connect()
    proxy.inflict(fault)
    assert is_silent(client)
    proxy.heal()

    with pytest.raises(ConnectionResetError):
        ask(client)


def test_a_client_is_reset_where_there_is_no_server(connect: Connect, echo: Echo) -> None:
    echo.stop()

    with pytest.raises(ConnectionResetError):
        ask(connect())


def test_it_counts_the_connections_that_wait_at_once(proxy: Proxy, connect: Connect) -> None:
    clients = [connect() for _ in range(4)]
    proxy.inflict(DELAY)
    proxy.most_busy()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ask, clients[:3]))

    assert 3 == proxy.most_busy()
    assert b"hello\n" == ask(clients[3])
    assert 1 == proxy.most_busy()
    assert 4 == proxy.open_connections


def test_nothing_is_left_of_it(echo: Echo) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    threads, before = threading.active_count(), descriptors()
    for fault in FAULTS:
        with Proxy(*echo.address) as proxy:
            clients = [socket.create_connection(proxy.address, PATIENCE_S) for _ in range(3)]
            for client in clients:
                ask(client)
            proxy.inflict(fault)
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sendall(b"hello\n")
                client.close()
        proxy.close()
    for thread in echo.threads[1:]:
        thread.join(PATIENCE_S)

    assert (threads, before) == (threading.active_count(), descriptors())
