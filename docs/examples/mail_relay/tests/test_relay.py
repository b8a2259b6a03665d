"""What the relay does with a mail, and what it doesn't take: over real connections, to a real next hop."""

import errno
import smtplib
import socket
from collections.abc import Generator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import cast

import pytest
from file_calls import file_calls
from mail_relay.intake import is_full

from retryspool import Queue, StorageError

from .relays import Relay, Sink, free_port

MAIL = b"From: me@example.com\r\nSubject: one\r\n\r\nHello\r\n..dots\r\n"


@pytest.fixture(scope="module")
def sink() -> Generator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture(scope="module")
def relay(sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Generator[Relay]:
    options = ("--fronts=1", "--size-limit=100000", "--max-recipients=3", "--max-sessions=20", "--max-attempts=3")
    elsewhere = f"--transport=nowhere.example=127.0.0.1:{free_port()}"
    with Relay(tmp_path_factory.mktemp("relay") / "spool", sink.port, *options, elsewhere) as relay:
        yield relay


@pytest.fixture(autouse=True)
def nothing_yet(sink: Sink) -> None:
    sink.mails.clear()
    sink.refused.clear()


def send(relay: Relay, *recipients: str, sender: str = "me@example.com", mail: bytes = MAIL) -> None:
    with relay.connect() as client:
        client.sendmail(sender, recipients, mail)


def arrived(relay: Relay, sink: Sink, address: str) -> bytes:
    relay.wait_for(lambda: bool(sink.to(address)))
    (mail,) = sink.to(address)
    return mail.original_content or b""


def blocks(report: bytes) -> list[Message]:
    """Return the part for programs of a report."""
    parts = cast("list[Message]", message_from_bytes(report).get_payload())
    return cast("list[Message]", parts[1].get_payload())


def test_a_mail_arrives_as_it_was_sent_under_a_trace_of_the_relay(relay: Relay, sink: Sink) -> None:
    send(relay, "plain@example.org")

    trace, _, rest = arrived(relay, sink, "plain@example.org").partition(b"\r\nFrom: ")
    assert MAIL == b"From: " + rest
    received = message_from_bytes(trace)["Received"]
    for part in ("from client.test ([127.0.0.1])", "by relay.test", "with ESMTP", "for <plain@example.org>;"):
        assert part in received


def test_recipients_of_one_mail_need_not_know_of_each_other(relay: Relay, sink: Sink) -> None:
    send(relay, "one@example.org", "two@example.com")

    content = arrived(relay, sink, "one@example.org")
    (mail,) = sink.mails
    assert ["one@example.org", "two@example.com"] == mail.rcpt_tos
    assert b"two@" not in content


def test_8_bit_content_and_addresses_in_any_script_are_relayed(relay: Relay, sink: Sink) -> None:
    mail = "Subject: Grüße\r\n\r\nGrüße\r\n".encode()
    with relay.connect() as client:
        client.sendmail("grüße@example.com", ["用户@example.org"], mail, ["SMTPUTF8", "BODY=8BITMIME"])

    assert arrived(relay, sink, "用户@example.org").endswith(mail)
    assert "grüße@example.com" == sink.mails[0].mail_from


def test_a_header_that_needs_smtputf8_is_not_sent_where_that_is_unknown(tmp_path: Path) -> None:
    with Sink(smtputf8=False) as sink, Relay(tmp_path / "spool", sink.port) as relay:
        with relay.connect() as client:
            client.sendmail("me@example.com", ["to@example.org"], "Subject: ä\r\n\r\n".encode(), ["SMTPUTF8"])
        report = arrived(relay, sink, "me@example.com")

    assert "5.6.7" == blocks(report)[1]["Status"]
    assert [] == sink.to("to@example.org")


def test_an_address_that_is_not_ascii_needs_smtputf8(relay: Relay) -> None:
    with relay.connect() as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        code, said = client.mail("grüße@example.com")

    assert (553, b"5.6.7") == (code, said[:5])


def test_what_looks_like_the_end_of_a_mail_and_is_none_ends_it_nowhere(relay: Relay, sink: Sink) -> None:
    with relay.connect() as client:
        client.ehlo()
        client.mail("me@example.com")
        client.rcpt("smuggle@example.org")
        client.docmd("DATA")
        client.send(b"a\n.\r\nMAIL FROM:<evil@example.com>\r\nb\r.\r\nc\n.\nd\r\n.\r\n")
        assert 250 == client.getreply()[0]

    content = arrived(relay, sink, "smuggle@example.org")
    assert 1 == len(sink.mails)
    assert content.endswith(b"a\r\n.\r\nMAIL FROM:<evil@example.com>\r\nb\r\n.\r\nc\r\n.\r\nd\r\n")


def test_commands_may_be_sent_without_waiting_for_replies(relay: Relay, sink: Sink) -> None:
    with relay.connect() as client:
        client.ehlo()
        assert client.has_extn("pipelining")
        client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<piped@example.org>\r\nDATA\r\n")
        assert [250, 250, 354] == [client.getreply()[0] for _ in range(3)]
        client.send(MAIL + b".\r\nRSET\r\nNOOP\r\n")
        assert [250, 250, 250] == [client.getreply()[0] for _ in range(3)]

    arrived(relay, sink, "piped@example.org")


def test_a_mail_that_goes_in_circles_is_refused(relay: Relay) -> None:
    circling = b"Received: from a by b; today\r\n" * 50 + MAIL

    with pytest.raises(smtplib.SMTPDataError) as caught:
        send(relay, "loop@example.org", mail=circling)

    assert 554 == caught.value.smtp_code
    assert "5.4.6" in str(caught.value.smtp_error)


def test_a_mail_that_is_too_large_is_refused_whether_it_says_so_or_not(relay: Relay, sink: Sink) -> None:
    large = MAIL + b"x" * 70 + (b"\r\n" + b"y" * 70) * 2000

    with pytest.raises(smtplib.SMTPSenderRefused) as told, relay.connect() as client:
        client.sendmail("me@example.com", ["big@example.org"], large)
    with relay.connect() as client:
        client.ehlo()
        client.mail("me@example.com")
        client.rcpt("big@example.org")
        untold = client.data(large)
        assert 250 == client.noop()[0]

    assert (552, 552) == (told.value.smtp_code, untold[0])
    assert [] == sink.mails


def test_more_recipients_than_a_mail_may_have_are_put_off(relay: Relay) -> None:
    with relay.connect() as client:
        client.ehlo()
        client.mail("me@example.com")
        replies = [client.rcpt(f"{number}@example.org") for number in range(4)]

    assert [250, 250, 250, 452] == [code for code, _ in replies]


def test_more_sessions_than_there_may_be_are_put_off(relay: Relay) -> None:
    clients = [relay.connect() for _ in range(20)]
    try:
        with pytest.raises(smtplib.SMTPConnectError) as caught:
            relay.connect()
        assert 421 == caught.value.smtp_code
    finally:
        for client in clients:
            client.close()
    relay.wait_for(lambda: _can_connect(relay))


def _can_connect(relay: Relay) -> bool:
    try:
        relay.connect().close()
    except smtplib.SMTPConnectError:
        return False
    return True


# -- reports -----------------------------------------------------------------------------------------------------------


def test_the_sender_is_told_who_was_refused_and_by_whom(relay: Relay, sink: Sink) -> None:
    sink.refused = {"gone@example.org": "550 5.1.1 No such user here"}

    send(relay, "gone@example.org", "there@example.org")

    report = arrived(relay, sink, "me@example.com")
    assert "<>" == sink.to("me@example.com")[0].mail_from
    whole = message_from_bytes(report)
    assert "multipart/report" == whole.get_content_type()
    assert "delivery-status" == whole.get_param("report-type")
    assert "auto-replied" == whole["Auto-Submitted"]
    text, _, returned = whole.get_payload()  # type: ignore[misc]
    assert "gone@example.org" in str(text)
    assert "Subject: one" in str(returned)
    about, recipient = blocks(report)
    assert "dns; relay.test" == about["Reporting-MTA"]
    assert "rfc822; gone@example.org" == recipient["Final-Recipient"]
    assert ("failed", "5.1.1") == (recipient["Action"], recipient["Status"])
    assert "dns; 127.0.0.1" == recipient["Remote-MTA"]
    assert "smtp; 550 5.1.1 No such user here" == recipient["Diagnostic-Code"]
    assert 1 == len(sink.to("there@example.org"))


def test_who_is_refused_is_reported_while_others_are_still_tried(relay: Relay, sink: Sink) -> None:
    sink.refused = {"gone@example.org": "550 5.1.1 gone", "slow@example.org": "450 4.2.0 greylisted"}

    send(relay, "gone@example.org", "slow@example.org")

    relay.wait_for(lambda: 2 == len(sink.to("me@example.com")))
    first, second = (blocks(mail.original_content or b"")[1:] for mail in sink.to("me@example.com"))
    assert [("rfc822; gone@example.org", "5.1.1")] == [(b["Final-Recipient"], b["Status"]) for b in first]
    assert [("rfc822; slow@example.org", "4.2.0")] == [(b["Final-Recipient"], b["Status"]) for b in second]


def test_what_cannot_be_reached_for_long_enough_is_reported_and_delays_nobody_else(relay: Relay, sink: Sink) -> None:
    send(relay, "to@nowhere.example", "reached@example.org")

    report = arrived(relay, sink, "me@example.com")
    assert "reached@example.org" in sink.mails[0].rcpt_tos
    (recipient,) = blocks(report)[1:]
    assert "rfc822; to@nowhere.example" == recipient["Final-Recipient"]
    assert "4.4.1" == recipient["Status"]
    assert "refused" in recipient["Diagnostic-Code"]


def test_nobody_is_told_of_a_mail_without_a_sender(relay: Relay, sink: Sink) -> None:
    sink.refused = {"gone@example.org": "550 5.1.1 gone"}

    send(relay, "gone@example.org", sender="")

    relay.wait_for(lambda: "a report can't be delivered" in relay.log)
    relay.wait_until_empty()
    assert [] == sink.mails


def test_a_report_that_cannot_be_delivered_is_the_end(relay: Relay, sink: Sink) -> None:
    sink.refused = {"gone@example.org": "550 gone", "nobody@example.com": "550 gone too"}
    dropped = relay.log.count("is dropped")

    send(relay, "gone@example.org", sender="nobody@example.com")

    relay.wait_for(lambda: relay.log.count("is dropped") > dropped)
    relay.wait_until_empty()
    assert [] == sink.mails


# -- what isn't taken --------------------------------------------------------------------------------------------------


def refusal(tmp_path: Path, *options: str) -> tuple[int, bytes]:
    """Return what a relay with these options says to a mail's recipient, or its sender."""
    with Relay(tmp_path / "spool", free_port(), "--fronts=1", *options) as relay, relay.connect() as client:
        client.ehlo()
        code, said = client.mail("me@example.com")
        return (code, said) if code != 250 else client.rcpt("to@example.org")


def test_mail_of_strangers_is_not_relayed(tmp_path: Path) -> None:
    assert (554, b"5.7.1 Relay access denied") == refusal(tmp_path, "--allow=192.0.2.0/24")


def test_a_disk_that_is_nearly_full_takes_no_mail(tmp_path: Path) -> None:
    assert (452, b"4.3.1 Insufficient system storage") == refusal(tmp_path, f"--min-free={2**60}")


def test_too_many_mails_that_wait_are_enough(tmp_path: Path) -> None:
    with Queue.open(tmp_path / "spool") as queue:
        queue.enqueue(MAIL, not_before=3600)

    assert (452, b"4.3.1 Too many mails wait to be sent") == refusal(tmp_path, "--max-waiting=1")


def test_a_mail_that_cannot_be_sent_yet_waits_on_the_disk_when_250_is_said(tmp_path: Path) -> None:
    with Relay(tmp_path / "spool", free_port(), "--retry-policy=fixed:1h") as relay:
        send(relay, "to@example.org")
        relay.process.kill()
        relay.process.wait()

    with Queue.open(tmp_path / "spool") as queue:
        assert 1 == sum(queue.counts().values())


def test_a_stop_lets_clients_know_and_ends_well(tmp_path: Path, sink: Sink) -> None:
    with Relay(tmp_path / "spool", sink.port) as relay, relay.connect() as client:
        code = relay.stop()
        assert 421 == client.getreply()[0]

    assert 0 == code


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    relay = Relay(tmp_path / "spool", free_port())
    with socket.create_server(("127.0.0.1", relay.port)):
        relay.launch()
        assert 1 == relay.process.wait(50)

    assert f"can't listen at 127.0.0.1:{relay.port}: " in relay.log


@pytest.mark.parametrize(("number", "room"), [(errno.ENOSPC, "none"), (errno.EDQUOT, "none"), (errno.EIO, "enough")])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_disk_that_fills_up_meanwhile_is_known_from_one_that_fails(
    number: int, room: str, nth: int, tmp_path: Path
) -> None:
    with (
        Queue.open(tmp_path / "spool") as queue,
        file_calls(only="write", fail_at=nth, error=number),
        pytest.raises(StorageError) as caught,
    ):
        queue.enqueue(MAIL)

    assert room == ("none" if is_full(caught.value) else "enough")
