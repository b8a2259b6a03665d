"""Reports of undelivered mail, read back by the standard library's parser."""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest

from retryspool_cli.handlers.replies import Result, failure, reply
from retryspool_cli.handlers.report import Undelivered, delivery_report

NOW = datetime(2030, 1, 6, tzinfo=UTC)
HEADERS = b"From: me@example.com\r\nSubject: One\r\n two\r\nX-Long: " + b"word " * 100 + b"\r\n"
REFUSED = reply(550, b"5.1.1 No such user\n5.1.1 here", "mx.example.org")


def report(results: dict[str, Result], **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "sender": "me@example.com",
        "results": results,
        "headers": HEADERS,
        "message_id": "m1",
        "arrived": datetime(2030, 1, 1, tzinfo=UTC),
        "now": NOW,
    }
    return delivery_report(Undelivered(**{**fields, **changes}), "relay.example.net")


def parts(content: bytes) -> tuple[Message, Message, Message]:
    text, status, returned = message_from_bytes(content).get_payload()  # type: ignore[misc]
    return text, status, returned  # type: ignore[return-value]


def recipients(content: bytes) -> list[Message]:
    return parts(content)[1].get_payload()[1:]  # type: ignore[index,return-value]


def test_a_report_has_the_parts_that_rfc_3464_asks_for() -> None:
    content = report({"gone@example.org": REFUSED})

    whole = message_from_bytes(content)
    assert ("multipart/report", "delivery-status") == (whole.get_content_type(), whole.get_param("report-type"))
    assert ("<me@example.com>", "auto-replied") == (whole["To"], whole["Auto-Submitted"])
    assert "MAILER-DAEMON@relay.example.net" in whole["From"]
    text, status, returned = parts(content)
    assert ["text/plain", "message/delivery-status", "text/rfc822-headers"] == [
        part.get_content_type() for part in (text, status, returned)
    ]
    assert "mx.example.org said: 550 5.1.1 No such user here" in str(text.get_payload())
    assert HEADERS.strip() == str(returned.get_payload()).encode().strip()
    assert all(b"\n" not in line for line in content.split(b"\r\n")), "every line ends in CRLF"


def test_each_recipient_has_a_block_with_what_was_said() -> None:
    content = report({"gone@example.org": REFUSED, "far@example.org": failure("4.4.1", "mx:25: refused", "mx")})

    about: Message = parts(content)[1].get_payload()[0]  # type: ignore[index,assignment]
    assert "dns; relay.example.net" == about["Reporting-MTA"]
    gone, far = recipients(content)
    assert {
        "Final-Recipient": "rfc822; gone@example.org",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.org",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user here",
        "Last-Attempt-Date": "Sun, 06 Jan 2030 00:00:00 +0000",
    } == dict(gone.items())
    assert ("4.4.1", "X-RetrySpool; mx:25: refused") == (far["Status"], far["Diagnostic-Code"])
    assert "tried since Tue, 01 Jan 2030" in str(parts(content)[0].get_payload())


def test_an_address_in_any_script_is_written_in_ascii_where_programs_read_it() -> None:
    (block,) = recipients(report({"grüße+x@example.org": REFUSED}))

    assert r"utf-8; gr\x{FC}\x{DF}e\x{2B}x@example.org" == block["Final-Recipient"]


@pytest.mark.parametrize("said", ["Grüße an alle", "x" * 1000, "a\r\nBcc: you@example.org\r\n\r\nb", ""])
def test_whatever_a_server_says_stays_in_its_place(said: str) -> None:
    content = report({"a@example.org": reply(550, said.encode())})

    (block,) = recipients(content)
    assert 5 == len(block.keys()), "no Remote-MTA was given, and nothing came in"
    assert block["Diagnostic-Code"].startswith("smtp; 550")
    assert block["Diagnostic-Code"].isascii()
    assert max(map(len, content.split(b"\r\n"))) < 998
    assert message_from_bytes(content)["Bcc"] is None


@pytest.mark.parametrize("headers", ["Subject: Grüße\r\n".encode(), b"Subject: \xff\xfe\r\n", b"", b"--=====\r\n"])
def test_the_headers_come_back_byte_for_byte(headers: bytes) -> None:
    assert headers in report({"a@example.org": REFUSED}, headers=headers)


def test_of_endless_headers_only_the_beginning_comes_back() -> None:
    assert len(report({"a@example.org": REFUSED}, headers=b"X: y\r\n" * 100_000)) < 100_000


def test_a_sender_in_any_script_is_addressed_as_they_are() -> None:
    assert "To: <grüße@example.com>".encode() in report({"a@example.org": REFUSED}, sender="grüße@example.com")
