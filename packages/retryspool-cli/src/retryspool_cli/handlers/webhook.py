"""Deliveries by HTTP: `retryspool work --webhook`.

| answer | becomes of the message |
| --- | --- |
| 2xx | delivered |
| 408, 425, 429, any 5xx | retried, after `Retry-After` if the answer names one |
| 3xx | retried: a redirect isn't followed, the payload goes nowhere but to the URL that was named |
| any other 4xx | bounced |
| no answer: refused, reset, timed out, TLS | retried |

A failure that is retried counts as the destination's, but for 425: enough in a row, and the message's route rests. 429
and 503 with a `Retry-After` let it rest at once, for that time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import BinaryIO

import urllib3
from urllib3.util import make_headers, parse_url

from retryspool import PermanentError, RetryableError, RouteError
from retryspool.queue import Message
from retryspool_cli.handlers.seekable import seekable
from retryspool_cli.handlers.signing import Signer

__all__ = ["OWN_HEADERS", "RETRIED", "WebhookHandler", "request_headers", "retry_after"]

RETRIED = frozenset({408, 425, 429})
"""The 4xx that are temporary."""

_OF_THE_RECEIVER = frozenset({429, 503})
"""Where these name a time, it's that of the receiver, not of one message (RFC 6585, 4; RFC 9110, 15.6.4)."""
_TOO_EARLY = 425
"""Says of this request alone that it may be a replay (RFC 8470, 5.2)."""

OWN_HEADERS = ("Idempotency-Key", "X-RetrySpool-Id", "X-RetrySpool-Deliveries", "X-RetrySpool-Attempts")
"""What the receiver is told of the message; the first two hold its id, the same at each delivery."""

_NOT_FORWARDED = re.compile(
    r"host|content-length|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|proxy-.*|x-retry-policy"
    r"|idempotency-key|x-retryspool-.*|webhook-(id|timestamp|signature)",
    re.IGNORECASE,
)
"""Headers of messages that would change how the request is framed, or that are the spool's own."""
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ANSWER_BYTES = 64 * 1024
"""How much of an answer is read, for the connection to be used again; one that says more loses its connection."""
_SAID_BYTES = 200
_LONGEST = timedelta(days=30)
"""A `Retry-After` beyond this is cut: no typing error of a receiver keeps a message for a year."""


class WebhookHandler:
    """Post each message to a URL. Connections are kept and shared between the worker's threads.

    :param headers: sent with each request, before a message's own
    :param signer: what to sign requests with, if anything
    :param timeout_s: how long to wait to connect, and for the answer
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        signer: Signer | None = None,
        timeout_s: float = 30.0,
        connections: int = 10,
    ) -> None:
        parsed = parse_url(url)
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            msg = f"{_without_password(url)!r} is not a URL to post to, such as https://example.com/hook"
            raise ValueError(msg)
        self._headers = dict(headers or {})
        self._signer = signer
        if parsed.auth:
            self._headers |= make_headers(basic_auth=parsed.auth)
        self._url = parsed._replace(auth=None).url
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            block=False,
            retries=False,
            timeout=urllib3.Timeout(connect=min(timeout_s, 10.0), read=timeout_s),
        )

    def __call__(self, message: Message, payload: BinaryIO) -> None:
        """Post the message once; twice where a kept connection turns out to be closed."""
        headers = request_headers(message, self._headers)
        if self._signer is None:
            self._deliver(payload, headers)
            return
        with seekable(payload) as body:  # it's read twice: what is signed goes before what is sent
            for name, value in self._signer.headers(message.id, body).items():
                _set(headers, name, value)
            self._deliver(body, headers)

    def _deliver(self, payload: BinaryIO, headers: Mapping[str, str]) -> None:
        try:
            response = self._post(payload, headers)
        except urllib3.exceptions.ProtocolError as error:  # most likely the server closed the connection meanwhile
            if not payload.seekable():
                raise RetryableError(_told(error)) from error
            payload.seek(0)
            try:
                response = self._post(payload, headers)
            except urllib3.exceptions.HTTPError as second:
                raise RetryableError(_told(second)) from second
        except urllib3.exceptions.HTTPError as error:
            raise RetryableError(_told(error)) from error
        _judge(response)

    def _post(self, payload: BinaryIO, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        return self._pool.request(
            "POST", self._url, body=payload, headers=headers, redirect=False, preload_content=False
        )

    def stop(self) -> None:
        """Close the connections."""
        self._pool.clear()


def _judge(response: urllib3.BaseHTTPResponse) -> None:
    said = _read(response)
    status = response.status
    if 200 <= status < 300:  # noqa: PLR2004 -- success
        return
    text = f"HTTP {status} {response.reason or ''}".rstrip() + (f": {said}" if said else "")
    if 400 <= status < 500 and status not in RETRIED:  # noqa: PLR2004 -- the client's error
        raise PermanentError(text)
    if 300 <= status < 400:  # noqa: PLR2004 -- redirection
        text += f" to {response.headers.get('Location', 'nowhere')} (not followed)"
    after = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    if after is not None and status in _OF_THE_RECEIVER:
        raise RouteError(text, after=after)
    raise RetryableError(text, after=after, concerns="message" if status == _TOO_EARLY else "route")


def _read(response: urllib3.BaseHTTPResponse) -> str:
    """Read the answer, so that its connection can be used again; return how it begins."""
    said = b""
    try:
        said = response.read(_ANSWER_BYTES)
        if response.read(1):
            response.close()
    except urllib3.exceptions.HTTPError:  # the status is what counts, and it's there
        response.close()
    return said[:_SAID_BYTES].decode("utf-8", "replace").strip()


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Return the delay that a `Retry-After` asks for: seconds, or a date; None if it says neither."""
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,18}", value):
        return min(timedelta(seconds=min(int(value), 10**9)), _LONGEST)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000": an HTTP date is in GMT whatever it says
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment - now, timedelta()), _LONGEST)


def request_headers(message: Message, fixed: Mapping[str, str]) -> dict[str, str]:
    """Return a request's headers: the message's own, then `fixed`, then those that say which message it is.

    :raises PermanentError: one of the message's headers can't be sent by HTTP
    """
    headers = {"Content-Type": "application/octet-stream", "User-Agent": "retryspool"}
    replaced = {name.lower() for name in fixed}
    for name, value in message.headers.items():
        if _NOT_FORWARDED.fullmatch(name) or name.lower() in replaced:
            continue
        if not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            msg = f"the header {name!r} can't be sent by HTTP: {value!r}"
            raise PermanentError(msg)
        _set(headers, name, value)
    for name, value in fixed.items():
        _set(headers, name, value)
    _set(headers, "Content-Length", str(message.size))
    told = (message.id, message.id, str(message.deliveries), str(message.attempts))
    return {**headers, **dict(zip(OWN_HEADERS, told, strict=True))}


def _set(headers: dict[str, str], name: str, value: str) -> None:
    """Set a header, whatever case it was set in before; what isn't ASCII goes as UTF-8."""
    for other in [other for other in headers if other.lower() == name.lower()]:
        del headers[other]
    headers[name] = value.encode("utf-8", "replace").decode("latin-1")


def _told(error: urllib3.exceptions.HTTPError) -> str:
    return " ".join(str(error).split())


def _without_password(url: str) -> str:
    from retryspool.urls import redact

    return redact(url)
