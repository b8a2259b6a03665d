"""Reports of mail that couldn't be delivered (RFC 3464): for people, for programs, and with the mail's headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, make_msgid

from retryspool_cli.handlers.replies import Result

__all__ = ["Undelivered", "delivery_report"]

_HEADER_BYTES = 64 * 1024
"""So much of the mail's headers is sent back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """A mail that some recipients don't get."""

    sender: str
    """Who is told."""
    results: Mapping[str, Result]
    """By recipient, what was said last. One that isn't permanent means: it was tried for long enough."""
    headers: bytes
    """The mail's own, as they came."""
    message_id: str
    """By what name this system knew the mail."""
    arrived: datetime
    now: datetime


def delivery_report(mail: Undelivered, hostname: str) -> bytes:
    """Return a report to the mail's sender. It's to be sent with the null sender, `<>`, so that none is about itself.

    :param hostname: this system's name
    :returns: a mail whose lines end in CRLF. Its own headers aren't ASCII if the sender's address isn't
    """
    rules = (policy.SMTP if mail.sender.isascii() else policy.SMTPUTF8).clone(max_line_length=None)
    report = MIMEMultipart("report", policy=rules)
    report.set_param("report-type", "delivery-status")
    report["From"] = f"Mail Delivery System <MAILER-DAEMON@{hostname}>"
    report["To"] = f"<{mail.sender}>"
    report["Subject"] = "Undelivered mail: returned to its sender"
    report["Date"] = format_datetime(mail.now)
    report["Message-ID"] = make_msgid(domain=hostname)
    report["Auto-Submitted"] = "auto-replied"  # RFC 3834: no vacation message answers it
    text = _for_people(mail, hostname)
    report.attach(MIMEText(text, "plain", "us-ascii" if text.isascii() else "utf-8"))
    report.attach(_for_programs(mail, hostname))
    report.attach(_returned(mail.headers))
    return report.as_bytes()


def _for_people(mail: Undelivered, hostname: str) -> str:
    lines = [
        f"This is the mail system at {hostname}.",
        "",
        "Your mail couldn't be delivered to everybody. Those below haven't got it, and it isn't tried any more.",
        "",
    ]
    for address, result in mail.results.items():
        said = f"{result.mta} said: {result.text}" if result.code and result.mta else result.text
        tried = "" if result.permanent else f"\n    (tried since {format_datetime(mail.arrived)})"
        lines.append(f"<{address}>:\n    {said}{tried}")
    return "\n".join([*lines, "", "The headers of your mail are attached.", ""])


def _for_programs(mail: Undelivered, hostname: str) -> Message:
    """Return the part for programs: a block on the mail, then one on each recipient (RFC 3464, 2.1)."""
    about = Message()
    about["Reporting-MTA"] = f"dns; {hostname}"
    about["X-RetrySpool-Message-Id"] = mail.message_id
    about["Arrival-Date"] = format_datetime(mail.arrived)
    part = Message()
    part["Content-Type"] = "message/delivery-status"
    part.set_payload([about, *(_recipient(address, result, mail.now) for address, result in mail.results.items())])
    return part


def _recipient(address: str, result: Result, now: datetime) -> Message:
    block = Message()
    block["Final-Recipient"] = f"rfc822; {address}" if address.isascii() else f"utf-8; {_xtext(address)}"
    block["Action"] = "failed"
    block["Status"] = result.status
    if result.mta:
        block["Remote-MTA"] = f"dns; {result.mta}"
    text = result.text.encode("ascii", "replace").decode()
    block["Diagnostic-Code"] = f"smtp; {text}" if result.code else f"X-RetrySpool; {text}"
    block["Last-Attempt-Date"] = format_datetime(now)
    return block


def _xtext(address: str) -> str:
    """Return an address in ASCII: `utf-8-addr-xtext` (RFC 6533, 3)."""
    plain = (char if "!" <= char <= "~" and char not in "\\+=" else f"\\x{{{ord(char):02X}}}" for char in address)
    return "".join(plain)


def _returned(headers: bytes) -> Message:
    """Return the part with the mail's headers, byte for byte but for ends of line."""
    part = Message()
    part["Content-Type"] = "text/rfc822-headers"
    part["Content-Transfer-Encoding"] = "7bit" if headers.isascii() else "8bit"
    part.set_payload(headers[:_HEADER_BYTES].replace(b"\r\n", b"\n").decode("ascii", "surrogateescape"))
    return part
