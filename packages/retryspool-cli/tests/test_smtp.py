import io
import math
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from hypothesis import given
from hypothesis import strategies as st

from retryspool import MessageMetadata, Queue, QueueOptions, RetryableError, Spool, State
from retryspool.memory import MemoryDataFactory, MemoryMetaFactory
from retryspool.queue import FixedRetry, Message
from retryspool.queue.message import Job
from retryspool_cli.exits import WrongUsageError
from retryspool_cli.handlers.envelope import wire_chunks
from retryspool_cli.handlers.replies import Result, read_results
from retryspool_cli.handlers.smtp import SmtpHandler, SmtpServer
from retryspool_cli.handlers.targets import Target, make_handler, parse_address

from .conftest import Cli, Deliver, put

MAIL = (
    b"From: me@example.com\r\nTo: you@example.org, Them <them@example.net>\r\nSubject: x\r\n\r\n.\r\n..dots\r\nend\r\n"
)


@dataclass
class Peer:
    """Takes mail, with the replies that a test has given it; 250 otherwise."""

    replies: dict[str, list[str]] = field(default_factory=dict)
    """By the recipient, or by the command."""
    mails: list[Envelope] = field(default_factory=list)
    sessions: set[Any] = field(default_factory=set)
    port: int = 0

    def reply(self, key: str) -> str:
        given = self.replies.get(key, [])
        return given.pop(0) if given else "250 OK"

    async def handle_MAIL(  # noqa: N802 -- aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, mail_options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return self.reply("MAIL")

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        reply = self.reply(address)
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- aiosmtpd's name
        self.sessions.add(session.peer)
        reply = self.reply("DATA")
        if reply.startswith("2"):
            self.mails.append(envelope)
        return reply

    @property
    def server(self) -> SmtpServer:
        return SmtpServer("127.0.0.1", self.port, local_hostname="client.test", timeout_s=10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def serve(peer: Peer, **options: Any) -> Generator[Peer]:
    peer.port = free_port()
    controller = Controller(peer, hostname="127.0.0.1", port=peer.port, **options)
    controller.start()
    try:
        yield peer
    finally:
        controller.stop()


@pytest.fixture
def peer() -> Generator[Peer]:
    yield from serve(Peer(), enable_SMTPUTF8=True)


def test_a_mail_arrives_byte_for_byte(peer: Peer, deliver: Deliver) -> None:
    record = deliver(SmtpHandler(peer.server), MAIL)

    (mail,) = peer.mails
    assert State.ARCHIVED is record.state
    assert mail.original_content == MAIL
    assert ("me@example.com", ["you@example.org", "them@example.net"]) == (mail.mail_from, mail.rcpt_tos)


def test_8_bit_content_arrives_byte_for_byte(peer: Peer, deliver: Deliver) -> None:
    mail = MAIL + bytes(range(0x80, 0x100)) * 2 + b"\r\n" + "Grüße\r\n".encode()

    deliver(SmtpHandler(peer.server), mail)

    assert peer.mails[0].original_content == mail
    assert "BODY=8BITMIME" in peer.mails[0].mail_options


def test_headers_of_the_message_name_the_envelope(peer: Peer, deliver: Deliver) -> None:
    deliver(SmtpHandler(peer.server), MAIL, headers={"Mail-From": "<>", "rcpt-to": "a@example.com,b@example.com"})

    assert ("<>", ["a@example.com", "b@example.com"]) == (peer.mails[0].mail_from, peer.mails[0].rcpt_tos)


def test_work_sends_what_was_spooled(peer: Peer, cli: Cli, queue: Queue) -> None:
    content = MAIL + bytes(range(0x80, 0x100)) + b"\r\n"
    put(queue, State.INCOMING, content)

    result = cli("work", "--smtp", f"127.0.0.1:{peer.port}", "--drain")

    assert "1 delivered" in result.err
    assert [content] == [mail.original_content for mail in peer.mails]


@given(st.binary(max_size=300) | st.text("\r\n.a", max_size=50).map(str.encode))
def test_what_follows_data_is_one_mail_and_no_more(content: bytes) -> None:
    wire = b"".join(wire_chunks(io.BytesIO(content)))

    assert not wire or wire.endswith(b"\r\n")
    lines = wire.split(b"\r\n")
    assert all(b"\r" not in line and b"\n" not in line for line in lines)
    assert b"." not in lines
    received = b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-1])
    normal = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert received == (normal if not normal or normal.endswith(b"\r\n") else normal + b"\r\n")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_where_a_mail_is_cut_into_chunks_makes_no_difference(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b".\r\n..\r\r\n\n.\r.\na\r\n.b\r"
    whole = b"".join(wire_chunks(io.BytesIO(content)))

    monkeypatch.setattr("retryspool_cli.handlers.envelope._CHUNK_BYTES", size)

    assert whole == b"".join(wire_chunks(io.BytesIO(content)))


@pytest.mark.parametrize("command", ["MAIL", "DATA"])
@pytest.mark.parametrize(("reply", "state"), [("451 later", State.DEFERRED), ("554 never", State.BOUNCE)])
def test_4xx_is_retried_and_5xx_bounces(command: str, reply: str, state: State, peer: Peer, deliver: Deliver) -> None:
    peer.replies[command] = [reply]

    record = deliver(SmtpHandler(peer.server), MAIL)

    assert state is record.state
    assert reply in record.last_error
    assert [] == peer.mails


def test_recipients_who_are_put_off_get_the_mail_later_and_nobody_gets_it_twice(peer: Peer) -> None:
    peer.replies = {"them@example.net": ["450 greylisted", "450 greylisted"]}

    record = deliver_until_done(SmtpHandler(peer.server), MAIL)

    assert (State.ARCHIVED, 2) == (record.state, record.attempts)
    assert [["you@example.org"], ["them@example.net"]] == [mail.rcpt_tos for mail in peer.mails]


def test_recipients_who_are_refused_bounce_once_the_others_have_the_mail(peer: Peer) -> None:
    mail = MAIL.replace(b"To: ", b"To: gone@example.org, ")
    peer.replies = {"gone@example.org": ["550 no such user"], "them@example.net": ["450 greylisted"]}

    record = deliver_until_done(SmtpHandler(peer.server), mail)

    assert State.BOUNCE is record.state
    assert [["you@example.org"], ["them@example.net"]] == [mail.rcpt_tos for mail in peer.mails]
    assert "gone@example.org" == record.headers["rcpt-to"], "a retry by hand goes to nobody else"
    assert {"gone@example.org": Result(550, "5.0.0", "550 no such user", "127.0.0.1")} == read_results(record.headers)
    assert "rcpt-refused" not in record.headers
    assert "550 no such user" in record.last_error


def test_if_nobody_is_taken_nothing_is_sent(peer: Peer, deliver: Deliver) -> None:
    peer.replies = {"you@example.org": ["550 no"], "them@example.net": ["551 no"]}

    assert State.BOUNCE is deliver(SmtpHandler(peer.server), MAIL).state
    assert [] == peer.mails


def test_a_server_that_hangs_up_is_retried(peer: Peer, deliver: Deliver) -> None:
    peer.replies = {"you@example.org": ["421 going down"]}

    record = deliver(SmtpHandler(peer.server), MAIL)

    assert State.DEFERRED is record.state
    assert "421 going down" in record.last_error
    assert "rcpt-to" not in record.headers
    assert [] == peer.mails


@pytest.mark.parametrize(
    ("replies", "concerns"),
    [
        ({"you@example.org": ["450 4.2.1 full"]}, "message"),
        ({"you@example.org": ["450 greylisted"], "them@example.net": ["550 no"]}, "message"),
        ({"MAIL": ["451 4.7.1 later"]}, "message"),
        ({"DATA": ["452 4.3.1 full"]}, "message"),
        ({"MAIL": ["451 4.3.2 not now"]}, "route"),
        ({"MAIL": ["530 5.7.0 log in"]}, "route"),
        ({"you@example.org": ["421 too many"]}, "route"),
        ({"MAIL": ["421 4.3.2 going down"]}, "route"),
    ],
)
def test_a_reply_is_of_the_server_or_of_the_mail(replies: dict[str, list[str]], concerns: str, peer: Peer) -> None:
    peer.replies = replies

    handler = SmtpHandler(peer.server)
    with pytest.raises(RetryableError) as caught:
        handler(Message(Job(MessageMetadata("a"), math.inf)), io.BytesIO(MAIL))

    handler.stop()
    assert concerns == caught.value.concerns


def test_a_server_that_is_not_there_is_retried(deliver: Deliver) -> None:
    record = deliver(SmtpHandler(SmtpServer("127.0.0.1", free_port())), MAIL)

    assert State.DEFERRED is record.state
    assert "refused" in record.last_error


@pytest.mark.parametrize("greeting", ["554 no service here", "421 too busy", "nonsense", ""])
def test_a_greeting_that_refuses_says_nothing_about_the_mail(greeting: str, deliver: Deliver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(f"{greeting}\r\n".encode() if greeting else b"")

        thread = threading.Thread(target=greet)
        thread.start()
        record = deliver(SmtpHandler(SmtpServer("127.0.0.1", server.getsockname()[1], timeout_s=5)), MAIL)
        thread.join()

    assert State.DEFERRED is record.state


@pytest.mark.parametrize(
    ("payload", "headers", "message"),
    [
        (b"Subject: x\r\n\r\n", {}, "no sender"),
        (b"From: a@b\r\n\r\n", {}, "no recipient"),
        (b"From: a@b\r\nBcc: c@d\r\n\r\n", {}, "no recipient"),
        (b"", {"mail-from": "a@b", "rcpt-to": "nobody"}, "no mail address"),
        (b"", {"mail-from": "a@b> SIZE=1", "rcpt-to": "c@d"}, "no mail address"),
        (b"", {"mail-from": "a@b\r\nRCPT TO:<x@y>", "rcpt-to": "c@d"}, "no mail address"),
    ],
)
def test_a_mail_without_a_usable_envelope_bounces(
    payload: bytes, headers: dict[str, str], message: str, peer: Peer, deliver: Deliver
) -> None:
    record = deliver(SmtpHandler(peer.server), payload, headers=headers)

    assert State.BOUNCE is record.state
    assert message in record.last_error
    assert [] == peer.mails


def test_addresses_may_be_in_any_script_where_the_server_knows_them(peer: Peer, deliver: Deliver) -> None:
    deliver(SmtpHandler(peer.server), MAIL, headers={"mail-from": "grüße@example.com", "rcpt-to": "用户@example.com"})

    assert ("grüße@example.com", ["用户@example.com"]) == (peer.mails[0].mail_from, peer.mails[0].rcpt_tos)


def test_what_a_server_does_not_know_is_not_sent_to_it(deliver: Deliver) -> None:
    class Plain(SMTP):
        async def smtp_EHLO(self, _hostname: str) -> None:  # noqa: N802 -- aiosmtpd's name
            await self.push("502 no")

    class PlainController(Controller):
        def factory(self) -> SMTP:
            return Plain(self.handler, loop=self.loop)

    peer = Peer(port=free_port())
    controller = PlainController(peer, hostname="127.0.0.1", port=peer.port)
    controller.start()
    try:
        eight_bit = deliver(SmtpHandler(peer.server), MAIL + b"\xff\r\n")
        foreign = deliver(SmtpHandler(peer.server), MAIL, headers={"rcpt-to": "用户@example.com"})
        plain = deliver(SmtpHandler(peer.server), MAIL)
    finally:
        controller.stop()

    assert (State.BOUNCE, State.BOUNCE, State.ARCHIVED) == (eight_bit.state, foreign.state, plain.state)
    assert "8BITMIME" in eight_bit.last_error
    assert "SMTPUTF8" in foreign.last_error


def test_sessions_are_kept_for_the_mails_that_follow(peer: Peer) -> None:
    spool = Spool(MemoryMetaFactory().create(), MemoryDataFactory().create())
    with Queue(spool, QueueOptions(concurrency=2)) as queue:
        for _ in range(20):
            queue.enqueue(MAIL)
        handler = SmtpHandler(peer.server)
        queue.add_handler(handler)
        queue.run(until_idle=True)
        handler.stop()

    assert 20 == len(peer.mails)
    assert len(peer.sessions) <= 2


@pytest.mark.parametrize(
    ("text", "address"),
    [("mail", ("mail", 25)), ("mail:587", ("mail", 587)), ("[::1]", ("::1", 25)), ("[::1]:2525", ("::1", 2525))],
)
def test_an_address_is_a_host_and_perhaps_a_port(text: str, address: tuple[str, int]) -> None:
    assert address == parse_address(text, 25)


@pytest.mark.parametrize("text", ["", ":25", "a:b", "a:0", "a:99999", "::1", "[::1", "[::1]25", "a:²"])
def test_what_is_no_address_is_wrong_usage(text: str) -> None:
    with pytest.raises(WrongUsageError, match="is not an address"):
        parse_address(text, 25)


def test_a_password_is_only_sent_where_nobody_can_read_it() -> None:
    with pytest.raises(WrongUsageError, match="RETRYSPOOL_SMTP_PASSWORD"):
        make_handler(Target(smtp="mail", smtp_user="me", smtp_tls="starttls"), {})
    with pytest.raises(WrongUsageError, match="for all to read"):
        make_handler(Target(smtp="mail", smtp_user="me"), {"RETRYSPOOL_SMTP_PASSWORD": "secret"})
    handler = make_handler(
        Target(smtp="mail", smtp_user="me", smtp_tls="implicit"), {"RETRYSPOOL_SMTP_PASSWORD": "secret"}
    )
    assert handler is not None
    assert "secret" not in repr(SmtpServer("mail", user="me", password="secret"))


def deliver_until_done(handler: SmtpHandler, payload: bytes) -> Any:
    spool = Spool(MemoryMetaFactory().create(), MemoryDataFactory().create())
    options = QueueOptions(on_success="archive", retry_policy="now")
    with Queue(spool, options, policies={"now": FixedRetry(0)}) as queue:
        message_id = queue.enqueue(payload).id
        queue.add_handler(handler)
        queue.run(until_idle=True)
        handler.stop()
        return queue.get(message_id)
