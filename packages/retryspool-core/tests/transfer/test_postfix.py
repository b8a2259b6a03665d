"""A queue of Postfix's own. `postfix_queue` was written by Postfix 3.7.11."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retryspool import ZERO_TIME, MessageMetadata, Spool, State
from retryspool.data import copy_payload
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.transfer import Found, import_messages, read_queue_folder
from retryspool.transfer.postfix import read_postfix_file

QUEUE = Path(__file__).with_name("postfix_queue")
TEMPLATE = MessageMetadata("template", headers={"from": "postfix"})
ARRIVED = 1_795_180_722
MAIL = (
    b"Received: by mail.example.com (Postfix, from userid 0)\n\tid 1C3B837426A; Fri, 20 Nov 2026 13:18:42 +0000 (UTC)\n"
    b"From: me@example.com\nTo: you@example.org\nSubject: x\n"
    b"Message-Id: <20261120131842.1C3B837426A@mail.example.com>\n"
    b"Date: Fri, 20 Nov 2026 13:18:42 +0000 (UTC)\n\nHello again\n" + b"z" * 5000 + b"\n.dot\n\nno end\n"
)


@pytest.fixture
def spool() -> Iterator[Spool]:
    with Spool(MemoryMeta(), MemoryData()) as spool:
        yield spool


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    return shutil.copytree(QUEUE, tmp_path / "queue")


def payload(spool: Spool, message_id: str) -> bytes:
    with spool.open_payload(spool.get(message_id)) as reader:
        return reader.read()


def record(kind: bytes, value: bytes = b"") -> bytes:
    """Return a record as Postfix writes it."""
    length, size = b"", len(value)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return kind + length + bytes([size]) + value


HEAD = record(b"T", b"1000000000 0") + record(b"S", b"me@example.com")
END = record(b"X") + record(b"E")


def found(path: Path) -> object:
    return read_postfix_file(path, TEMPLATE)


def content(each: object) -> bytes:
    assert isinstance(each, Found)
    sink = io.BytesIO()
    with each.open() as chunks:
        copy_payload(chunks, sink)
    return sink.getvalue()


def test_a_mail_is_read_with_its_envelope(spool: Spool, queue: Path) -> None:
    later = datetime(2100, 1, 1, tzinfo=UTC)
    os.utime(queue / "deferred/1/1C3B837426A", (later.timestamp(), later.timestamp()))

    imported = import_messages(spool, read_queue_folder(queue, TEMPLATE))

    assert (2, {}) == (imported.messages, dict(imported.aside))
    deferred = spool.get("1C3B837426A")
    assert MAIL == payload(spool, "1C3B837426A")
    assert {
        "from": "postfix",
        "mail-from": "me@example.com",
        "rcpt-to": "you@example.org, bcc@example.net, archive@example.net",
    } == deferred.headers
    assert (State.DEFERRED, later, datetime.fromtimestamp(ARRIVED, UTC)) == (
        deferred.state,
        deferred.next_retry,
        deferred.created,
    )


def test_a_mail_that_was_not_picked_up_is_read(spool: Spool, queue: Path) -> None:
    import_messages(spool, read_queue_folder(queue, TEMPLATE))

    (dropped,) = spool.meta.iter_messages(State.INCOMING)
    assert b"Hello again\n" + b"z" * 5000 + b"\n.dot\n\nno end" == payload(spool, dropped.id).split(b"\n\n", 1)[1]
    assert "you@example.org, bcc@example.net" == dropped.headers["rcpt-to"]


def test_a_deferred_mail_that_is_due_is_due(spool: Spool, queue: Path) -> None:
    os.utime(queue / "deferred/1/1C3B837426A", (ARRIVED, ARRIVED))
    (queue / "deferred/1/1C3B837426A").touch()

    import_messages(spool, read_queue_folder(queue, TEMPLATE))

    assert ZERO_TIME == spool.get("1C3B837426A").next_retry


def test_recipients_that_have_it_are_left_out(tmp_path: Path) -> None:
    done, other = record(b"D", b"a@example.com"), record(b"R", b"b@example.com")
    body = record(b"M") + record(b"N", b"hello") + END
    (tmp_path / "some").write_bytes(HEAD + done + other + body)
    (tmp_path / "all").write_bytes(HEAD + done + body)
    (tmp_path / "none").write_bytes(HEAD + body)

    assert isinstance(some := found(tmp_path / "some"), Found)
    assert "b@example.com" == some.record.headers["rcpt-to"]
    assert "all its recipients have it already" == getattr(found(tmp_path / "all"), "reason", None)
    assert "it has no recipient" == getattr(found(tmp_path / "none"), "reason", None)


def test_a_mail_that_was_changed_in_the_queue_is_read_as_it_is(tmp_path: Path) -> None:
    """Its second line is elsewhere, and so is a recipient; a line and a recipient were taken out."""
    head = HEAD + record(b"R", b"a@example.com") + record(b"/", b"gone@example.com")
    pointer = len(record(b"p", b"%15d" % 0))
    body = len(head) + pointer
    start = record(b"M") + record(b"N", b"first") + record(b"w", b"deleted")
    rest = record(b"N", b"third") + END
    new_recipient = body + len(start) + pointer + len(rest)
    recipient = record(b"R", b"b@example.com")
    new_line = new_recipient + len(recipient) + pointer
    (tmp_path / "mail").write_bytes(
        head
        + record(b"p", b"%15d" % new_recipient)
        + start
        + record(b"p", b"%15d" % new_line)
        + rest
        + recipient
        + record(b"p", b"%15d" % body)
        + record(b"L", b"sec")
        + record(b"N", b"ond")
        + record(b"p", b"%15d" % (body + len(start) + pointer))
    )

    assert isinstance(mail := found(tmp_path / "mail"), Found)
    assert "a@example.com, b@example.com" == mail.record.headers["rcpt-to"]
    assert b"first\nsecond\nthird\n" == content(mail)


def test_the_null_sender_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(
        record(b"T", b"1 0") + record(b"S") + record(b"R", b"a@example.com") + record(b"M") + END
    )

    assert isinstance(mail := found(tmp_path / "mail"), Found)
    assert "<>" == mail.record.headers["mail-from"]


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"Subject: a mail as it is\n\nx",
        b"To: a mail as it is\n\nx",
        HEAD,
        HEAD + record(b"R", b"a") + END,
        record(b"T", b"never") + HEAD + record(b"M") + END,
        HEAD + record(b"M") + record(b"p", b"%15d" % 1) + END,
        HEAD + record(b"M") + b"N\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + END,
    ],
)
def test_what_is_not_whole_is_a_file_like_any_other(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "file").write_bytes(damaged)

    assert None is found(tmp_path / "file")


def test_pointers_that_go_round_in_circles_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(HEAD + record(b"p", b"%15d" % len(HEAD)) + END)

    assert None is found(tmp_path / "file")


@given(data=st.binary(max_size=200))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(HEAD + data)

    each = found(path)

    assert each is None or not isinstance(each, Found) or isinstance(content(each), bytes)
