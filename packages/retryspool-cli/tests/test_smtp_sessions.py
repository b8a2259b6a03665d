"""What goes over the wire to a mail server, seen from a server that is played line by line."""

import socket
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedRWPair
from typing import Any

import pytest

from retryspool import Queue, QueueOptions, Spool, State
from retryspool.memory import MemoryDataFactory, MemoryMetaFactory
from retryspool.queue import FixedRetry
from retryspool_cli.handlers.replies import Result, failure, read_results, reply, summary, write_results
from retryspool_cli.handlers.smtp import SmtpHandler, SmtpServer

from .conftest import Deliver

MAIL = b"From: me@example.com\r\nTo: one@example.org, two@example.org\r\n\r\nHello\r\n"

Play = Callable[["Wire"], None]

TO_BOTH = ("250 OK", "250 OK", "250 OK", "354 go on")
"""To MAIL, RCPT for each of them, and DATA."""


@dataclass
class Wire:
    """One connection of a client, at the server's end."""

    lines: BufferedRWPair
    heard: list[str]

    def say(self, *replies: str) -> None:
        self.lines.write("".join(f"{reply}\r\n" for reply in replies).encode())
        self.lines.flush()

    def hear(self, count: int = 1) -> list[str]:
        """Wait for some lines; what is said back comes after all of them."""
        heard = [self.lines.readline().decode().rstrip() for _ in range(count)]
        self.heard += heard
        return heard

    def greet(self, *extensions: str) -> None:
        self.say("220 played")
        self.hear()
        self.say(*(f"250-{name}" for name in ("played", *extensions)), "250 8BITMIME")

    def content(self) -> None:
        while (line := self.lines.readline()) not in (b".\r\n", b""):
            self.heard.append(line.decode().rstrip())
        self.heard.append(".")

    def take(self, *replies: str, then: str = "250 taken") -> None:
        """Hear a command for each of the replies before the first is said; then hear the mail, and answer it."""
        self.hear(len(replies))
        self.say(*replies)
        self.content()
        self.say(then)


@dataclass
class Played:
    """A server that plays one part after another, each for one connection."""

    plays: list[Play]
    heard: list[str] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for play in self.plays:
            connection, _ = self._listener.accept()
            self.connections += 1
            # A client that goes away with replies unread resets the connection.
            with suppress(ConnectionResetError), connection, connection.makefile("rwb") as lines:
                play(Wire(lines, self.heard))

    @property
    def server(self) -> SmtpServer:
        return SmtpServer("127.0.0.1", self._listener.getsockname()[1], local_hostname="client.test", timeout_s=10)

    def close(self) -> None:
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def played() -> Generator[Callable[..., Played]]:
    servers: list[Played] = []

    def start(*plays: Play) -> Played:
        servers.append(Played(list(plays)))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def deliver_all(handler: SmtpHandler, *mails: bytes) -> list[Any]:
    """Deliver mails one after another, in one session where it's kept; return their records."""
    spool = Spool(MemoryMetaFactory().create(), MemoryDataFactory().create())
    options = QueueOptions(on_success="archive", retry_policy="late", concurrency=1)
    with Queue(spool, options, policies={"late": FixedRetry(3600)}) as queue:
        queue.add_handler(handler)
        records = []
        for mail in mails:
            message_id = queue.enqueue(mail).id
            queue.run(until_idle=True)
            records.append(queue.get(message_id))
        handler.stop()
        return records


def commands(heard: list[str]) -> list[str]:
    return [line.split()[0].upper() for line in heard if line.split() and line.split()[0].isupper()]


def test_a_mail_takes_two_round_trips_where_the_server_knows_pipelining(played: Any, deliver: Deliver) -> None:
    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.hear(4)  # MAIL, both RCPT and DATA, before a word is said
        wire.say("250 OK", "250 OK", "250 OK", "354 go on")
        wire.content()
        wire.say("250 taken")
        wire.hear()

    server = played(play)
    record = deliver(SmtpHandler(server.server), MAIL)

    assert State.ARCHIVED is record.state, record.last_error
    assert ["MAIL", "RCPT", "RCPT", "DATA"] == commands(server.heard)[:4]


def test_without_pipelining_each_command_waits_for_its_reply(played: Any, deliver: Deliver) -> None:
    def play(wire: Wire) -> None:
        wire.greet()
        for said in ("250 OK", "250 OK", "250 OK", "354 go on"):
            wire.hear()
            wire.say(said)
        wire.content()
        wire.say("250 taken")
        wire.hear()

    assert State.ARCHIVED is deliver(SmtpHandler(played(play).server), MAIL).state


def test_a_hundred_recipients_are_pipelined_in_groups_that_fit_the_buffers(played: Any, deliver: Deliver) -> None:
    recipients = ", ".join(f"{number}@example.org" for number in range(120))

    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        for group in (50, 50, 21):
            wire.hear(group)
            wire.say(*["250 OK"] * group)
        wire.hear()
        wire.say("354 go on")
        wire.content()
        wire.say("250 taken")
        wire.hear()

    record = deliver(SmtpHandler(played(play).server), MAIL, headers={"mail-from": "a@b", "rcpt-to": recipients})

    assert State.ARCHIVED is record.state, record.last_error


def test_a_server_that_says_go_on_with_nobody_to_send_to_gets_an_empty_mail_and_the_next_one_whole(played: Any) -> None:
    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.take("250 OK", "550 5.1.1 no", "550 5.1.1 no", "354 go on", then="554 5.5.1 nobody to send it to")
        wire.take(*TO_BOTH)
        wire.hear()

    server = played(play)
    refused, taken = deliver_all(SmtpHandler(server.server), MAIL, MAIL)

    assert (State.BOUNCE, State.ARCHIVED) == (refused.state, taken.state)
    assert "550 5.1.1 no" == refused.last_error.partition(": ")[2]
    assert 1 == server.heard.count("Hello")


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)], ids=["step by step", "pipelined"])
def test_a_transaction_that_came_to_nothing_is_reset_before_the_next(extensions: tuple[str, ...], played: Any) -> None:
    def play(wire: Wire) -> None:
        wire.greet(*extensions)
        replies = {"MAIL": "250 OK", "RCPT": "250 OK", "RSET": "250 OK", "DATA": "451 4.3.0 later", "QUIT": "221 bye"}
        while line := wire.hear()[0]:
            wire.say(replies[line.split()[0].upper()])
            if line == "RSET":
                replies["DATA"] = "354 go on"
            elif line == "DATA" and replies["DATA"].startswith("354"):
                wire.content()
                wire.say("250 taken")

    server = played(play)
    first, second = deliver_all(SmtpHandler(server.server), MAIL, MAIL)

    assert (State.DEFERRED, State.ARCHIVED) == (first.state, second.state)
    assert 1 == server.connections


@pytest.mark.parametrize("farewell", ["421 4.4.2 idle for too long", None], ids=["421", "no word"])
def test_a_session_that_the_server_closed_meanwhile_costs_no_attempt(farewell: str | None, played: Any) -> None:
    def once(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.take(*TO_BOTH)
        if farewell:
            wire.say(farewell)

    server = played(once, once)
    first, second = deliver_all(SmtpHandler(server.server), MAIL, MAIL)

    assert [(State.ARCHIVED, 0)] * 2 == [(first.state, first.attempts), (second.state, second.attempts)]
    assert 2 == server.connections


def test_a_connection_that_is_lost_after_the_mail_was_sent_is_not_taken_for_an_old_one(played: Any) -> None:
    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.take(*TO_BOTH)
        wire.hear(4)
        wire.say(*TO_BOTH)
        wire.content()

    server = played(play)
    _, second = deliver_all(SmtpHandler(server.server), MAIL, MAIL)

    assert (State.DEFERRED, 1) == (second.state, second.attempts), "sending it again is the retry policy's business"


def test_a_stop_does_not_wait_for_a_server_that_says_nothing_any_more(played: Any) -> None:
    stopped = threading.Event()

    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.take(*TO_BOTH)
        assert ["QUIT"] == wire.hear()
        assert stopped.wait(5), "it waits for a reply to QUIT"

    server = played(play)
    (record,) = deliver_all(SmtpHandler(server.server), MAIL)
    stopped.set()

    assert State.ARCHIVED is record.state


def test_recipients_who_are_too_many_for_one_mail_get_the_next_at_once(played: Any, deliver: Deliver) -> None:
    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.take("250 OK", "250 OK", "452 4.5.3 too many", "354 go on")
        wire.take("250 OK", "250 OK", "354 go on")
        wire.hear()

    server = played(play)
    record = deliver(SmtpHandler(server.server), MAIL)

    assert (State.ARCHIVED, 0) == (record.state, record.attempts)
    assert 2 == server.heard.count("Hello")
    assert ["RCPT TO:<two@example.org>"] == server.heard[server.heard.index(".") :][2:3]


def test_who_has_the_mail_does_not_get_it_again_if_the_next_part_of_it_fails(played: Any, deliver: Deliver) -> None:
    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.take("250 OK", "250 OK", "452 4.5.3 too many", "354 go on")
        wire.hear(3)
        wire.say("421 4.3.2 going down")

    record = deliver(SmtpHandler(played(play).server), MAIL)

    assert State.DEFERRED is record.state
    assert "two@example.org" == record.headers["rcpt-to"]


def test_421_in_the_middle_puts_everybody_off_with_what_it_said(played: Any, deliver: Deliver) -> None:
    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.hear(4)
        wire.say("250 OK", "250 OK", "421 4.3.2 going down")

    record = deliver(SmtpHandler(played(play).server), MAIL)

    assert State.DEFERRED is record.state
    assert {"4.3.2"} == {result.status for result in read_results(record.headers).values()}
    assert "421 4.3.2 going down" in record.last_error


def test_what_was_said_of_each_recipient_is_kept(played: Any, deliver: Deliver) -> None:
    def play(wire: Wire) -> None:
        wire.greet("PIPELINING")
        wire.hear(4)
        wire.say("250 OK", "550-5.1.1 No such user", "550 5.1.1 here", "450 4.2.0 greylisted", "503 5.5.1 nobody")
        wire.hear()

    record = deliver(SmtpHandler(played(play).server), MAIL)

    assert {
        "one@example.org": Result(550, "5.1.1", "550 5.1.1 No such user here", "127.0.0.1"),
        "two@example.org": Result(450, "4.2.0", "450 4.2.0 greylisted", "127.0.0.1"),
    } == read_results(record.headers)
    assert ("two@example.org", "one@example.org") == (record.headers["rcpt-to"], record.headers["rcpt-refused"])


# -- replies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said", "status", "becomes"),
    [
        (550, b"5.1.1 no such user", "5.1.1", "bounces"),
        (450, b"4.7.1 greylisted", "4.7.1", "is retried"),
        (550, b"no such user", "5.0.0", "bounces"),
        (550, b"4.2.1 of another class than its code", "5.0.0", "bounces"),
        (451, b"5.7.1 of another class than its code", "4.0.0", "is retried"),
        (554, b"5.7.1 relay access denied", "5.7.1", "bounces"),
        (550, b"5.7.26 unauthenticated mail is prohibited", "5.7.26", "bounces"),
        (530, b"5.7.0 must issue a STARTTLS command first", "5.7.0", "is retried"),
        (535, b"5.7.8 authentication failed", "5.7.8", "is retried"),
        (550, b"5.7.11 encryption required", "5.7.11", "is retried"),
        (550, b"5.1.1", "5.1.1", "bounces"),
        (550, b"5.1.1111 is none", "5.0.0", "bounces"),
        (550, b"", "5.0.0", "bounces"),
    ],
)
def test_the_reply_code_decides_and_the_enhanced_status_code_is_kept(
    code: int, said: bytes, status: str, becomes: str
) -> None:
    result = reply(code, said)

    assert (status, becomes) == (result.status, "bounces" if result.permanent else "is retried")


def test_results_are_kept_in_a_header_and_one_that_somebody_changed_is_none() -> None:
    results = {"a@b": reply(550, b"5.1.1 no", "mx"), "grüße@b": failure("4.4.1", "refused")}

    assert results == read_results({"rcpt-results": write_results(results)})
    for changed in ("", "[]", "{", '{"a": 1}', '{"a": ["550", "5.1.1", "no", "mx"]}'):
        assert {} == read_results({"rcpt-results": changed})


def test_what_was_said_of_all_is_told_once() -> None:
    same = reply(450, b"later")

    assert "450 later" == summary({"a@b": same, "c@d": same})
    assert "a@b, c@d: 450 later; e@f: 550 no" == summary({"a@b": same, "c@d": same, "e@f": reply(550, b"no")})
