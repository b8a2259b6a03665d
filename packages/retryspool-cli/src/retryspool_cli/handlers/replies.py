"""What SMTP servers answer, and what becomes of each recipient by it.

The reply code decides (RFC 5321, 4.2.1); the enhanced status code (RFC 3463) is kept and shown, and decides only where
it says that the session is meant, not the mail.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["RCPT_RESULTS", "Result", "failure", "read_results", "reply", "summary", "write_results"]

RCPT_RESULTS = "rcpt-results"
"""The message header that holds, as JSON, what was last said of each recipient who hasn't got the mail."""

_ABOUT_US = frozenset({530, 534, 535, 538})
"""What a server says to a client that should log in, or encrypt, first (RFC 3207, RFC 4954): nothing about the mail."""
_ABOUT_OUR_LOGIN = frozenset({"5.7.8", "5.7.9", "5.7.10", "5.7.11", "5.7.12"})
"""The same by enhanced status code, whatever the reply code: those are registered for AUTH."""
_OUT_OF_SERVICE = frozenset({"4.3.2", "4.4.5"})
"""Not accepting messages now; congestion (RFC 3463, 3.4 and 3.5)."""
_TOO_MANY = frozenset({(452, "4.5.3"), (452, "4.0.0"), (552, "5.5.3")})
"""After RCPT: no more of them in this mail (RFC 5321, 4.5.3.1.10); 552 is what RFC 821 called it."""
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+|$)")
_LONGEST_TEXT = 400


@dataclass(frozen=True, slots=True)
class Result:
    """What was said of a recipient, or of the whole mail."""

    code: int
    """The reply code; 0 if there was no reply."""
    status: str
    """The enhanced status code; where the server gave none, or one of another class than its reply code, `X.0.0`."""
    text: str
    """All that was said, on one line; without a reply, what went wrong."""
    mta: str = ""
    """Who said it: the server's host."""

    @property
    def delivered(self) -> bool:
        """Whether the server has taken it."""
        return 200 <= self.code < 300  # noqa: PLR2004 -- RFC 5321, 4.2.1

    @property
    def permanent(self) -> bool:
        """Whether it's refused for good."""
        if not self.code:
            return self.status.startswith("5")
        return self.code >= 500 and self.code not in _ABOUT_US and self.status not in _ABOUT_OUR_LOGIN  # noqa: PLR2004

    @property
    def of_server(self) -> bool:
        """Whether it says, though not for good, that the server takes no mail at all now, or none of ours."""
        return self.code in _ABOUT_US or self.status in _ABOUT_OUR_LOGIN or self.status in _OUT_OF_SERVICE

    @property
    def too_many(self) -> bool:
        """Whether, of a recipient, it says: not in this mail, but in one of its own."""
        return (self.code, self.status) in _TOO_MANY


def reply(code: int, said: bytes, mta: str = "") -> Result:
    """Return a server's reply, its lines made one."""
    lines = said.decode("utf-8", "replace").splitlines()
    first = _STATUS.match(lines[0]) if lines else None
    status = f"{code // 100}.0.0"
    if first is not None:
        if first[1][0] == status[0]:
            status = first[1]
        lines[1:] = [line.removeprefix(first[1]) for line in lines[1:]]
    return Result(code, status, _one_line(f"{code} {' '.join(lines)}"), mta)


def failure(status: str, text: str, mta: str = "") -> Result:
    """Return a result that no server gave: it couldn't be reached, or can't take such a mail."""
    return Result(0, status, _one_line(text), mta)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_TEXT]


def write_results(results: Mapping[str, Result]) -> str:
    """Return the value of the header `rcpt-results`."""
    return json.dumps({address: [r.code, r.status, r.text, r.mta] for address, r in results.items()})


def read_results(headers: Mapping[str, str]) -> dict[str, Result]:
    """Return what the header `rcpt-results` holds; nothing where it's missing or somebody has changed it."""
    try:
        found: object = json.loads(headers.get(RCPT_RESULTS, "{}"))
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    entries = cast("Mapping[str, Any]", found)
    return {address: result for address, entry in entries.items() if (result := _result(entry)) is not None}


def _result(entry: object) -> Result | None:
    match entry:
        case [int(code), str(status), str(text), str(mta)]:
            return Result(code, status, text, mta)
        case _:
            return None


def summary(results: Mapping[str, Result]) -> str:
    """Return the results as a text for people: each thing that was said once, with those of whom it was said."""
    said: dict[str, list[str]] = {}
    for address, result in results.items():
        said.setdefault(result.text, []).append(address)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{_list(addresses)}: {text}" for text, addresses in said.items())


def _list(addresses: Iterable[str]) -> str:
    return ", ".join(addresses)
