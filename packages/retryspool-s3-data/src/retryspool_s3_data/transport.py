"""Makes the requests of a boto3 client keep to the deadline. It's the only place that reaches into botocore.

A botocore client has one time-out for connecting and one for reading, the same for all requests, and sleeps between
its attempts. What is changed here:

- Its connections cut the time-outs down to what is left, anew for each piece that they send or receive. (By itself, a
  request's time-out begins again with each byte that drips in, and the one for connecting bounds a whole body.)
- It makes no further attempt when the longest pause before that wouldn't fit in what is left.
- A reply that breaks off is no reply. (By itself, botocore takes a listing that ends in its headers for an empty one.)
- It notes whether an attempt that failed may have had its effect.
- Bodies are sent without first asking whether they're welcome (`Expect: 100-continue`). That costs a round trip each
  time, and botocore's handling of the answer is broken: a connection that ends in the middle of it makes it read the
  end of file for ever, and after an empty body the next answer is taken for another (boto/botocore#3755).
"""

# ruff: noqa: SLF001 -- botocore and urllib3 have no public way to any of this

from __future__ import annotations

import io
import threading
from contextvars import ContextVar
from functools import cache
from http.client import HTTPResponse, RemoteDisconnected
from typing import TYPE_CHECKING, Any, cast

import botocore
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError
from urllib3.exceptions import ConnectTimeoutError as PoolConnectTimeoutError
from urllib3.util import Timeout

from retryspool.deadline import remaining
from retryspool.errors import BackendError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

__all__ = ["abandoned", "attempts", "keep_to_deadlines"]

_PIECE_BYTES = 256 * 1024
_LONGEST_PAUSE_S = 20
_LONGEST_PAUSE_ASKED_FOR_S = 5
_NEVER_CONNECTED = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
_REFUSED_FOR_NOW = (429, 503)
_SERVER_FAILED = 500


class _Attempts(threading.local):
    """What is known of the attempts of this thread's current request."""

    uncertain = False
    """One of them failed and may have had its effect."""


attempts = _Attempts()

abandoned: ContextVar[threading.Event | None] = ContextVar("retryspool_s3_abandoned", default=None)
"""Set when nobody wants the result any more: no further attempt is made then."""


def keep_to_deadlines(client: S3Client, send_timeout_s: float | None = None) -> None:
    """Change a client so; once is enough, and a second time does no harm.

    :param send_timeout_s: how long the server may take no byte of a body; None for what the client has
    """
    try:
        session = cast("Any", client)._endpoint.http_session
        managers: list[Any] = [session._manager, *session._proxy_managers.values()]
        pool: type = session._pool_classes_by_scheme["http"]
    except AttributeError as error:
        raise BackendError(
            f"deadlines can't be kept with botocore {botocore.__version__}, which isn't made as those before; "
            "install one that retryspool-s3-data was released with"
        ) from error
    if not issubclass(pool, _Pool):
        session._pool_classes_by_scheme = pools = _pools(send_timeout_s)
        for manager in managers:
            manager.pool_classes_by_scheme = pools
            manager.clear()
    events = cast("Any", client.meta.events)
    events.register_first("needs-retry.s3", _needs_retry, unique_id="retryspool-s3-data")
    events.register("before-send.s3", _send_body_at_once, unique_id="retryspool-s3-data-send")


@cache
def _pools(send_timeout_s: float | None) -> dict[str, type]:
    connection = type("Connection", (_Connection, AWSHTTPConnection), {"send_timeout": send_timeout_s})
    secure = type("SecureConnection", (_Connection, AWSHTTPSConnection), {"send_timeout": send_timeout_s})
    return {
        "http": type("Pool", (_Pool, AWSHTTPConnectionPool), {"ConnectionCls": connection}),
        "https": type("SecurePool", (_Pool, AWSHTTPSConnectionPool), {"ConnectionCls": secure}),
    }


if TYPE_CHECKING:
    _PoolBase = AWSHTTPConnectionPool
    _ConnectionBase = AWSHTTPConnection
else:  # two kinds of each are made of these, by _pools()
    _PoolBase = _ConnectionBase = object


class _Pool(_PoolBase):
    """A pool that gives connecting the time that is left, at most, and takes no part of a reply for the whole."""

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        left = remaining()
        if left is not None:
            if left <= 0:
                raise PoolConnectTimeoutError("the deadline has passed")
            asked: Any = kwargs.get("timeout") or self.timeout
            connect = left if asked.connect_timeout is None else min(left, asked.connect_timeout)
            kwargs["timeout"] = Timeout(connect=connect, read=asked.read_timeout)
        return super().urlopen(*args, **{**kwargs, "enforce_content_length": True})


class _Connection(_ConnectionBase):
    """A connection that gives each piece of a body the time that is left, at most, and so each piece of a reply."""

    send_timeout: float | None
    response_class: Any
    sock: Any
    timeout: Any

    def request(self, *args: Any, **kwargs: Any) -> Any:
        if self.sock is None:
            self.connect()
        self.timeout = self.send_timeout or self.timeout
        return super().request(*args, **kwargs)

    def send(self, str: Any) -> None:  # noqa: A002 -- it's called so above
        pieces: list[Any] = [str]
        if isinstance(str, bytes):
            view = memoryview(str)
            pieces = [view[start : start + _PIECE_BYTES] for start in range(0, len(view), _PIECE_BYTES)]
        for piece in pieces:
            _limit(self.sock, self.timeout)
            super().send(piece)

    def getresponse(self) -> Any:
        self.response_class = _Response
        return super().getresponse()


class _Response(HTTPResponse):
    """A reply that is received by a `_Receiver`."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._receiver = _Receiver(sock)
        self.fp = io.BufferedReader(self._receiver)

    def begin(self) -> None:
        super().begin()
        if self._receiver.ended:  # by itself, http.client takes the end of the connection for that of the headers
            raise RemoteDisconnected("the connection ended in the headers of the reply")


class _Receiver(io.RawIOBase):
    """Receives from a socket, and waits no longer than the time that is left."""

    def __init__(self, sock: Any) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._timeout = sock.gettimeout()
        self._limited = False
        self.ended = False
        """Nothing more comes."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        limited = _limit(self._sock, self._timeout)
        if self._limited and not limited:
            self._sock.settimeout(self._timeout)
        self._limited = limited
        received: int | None = self._raw.readinto(buffer)
        self.ended = received == 0
        return received

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._raw.close()


def _limit(sock: Any, timeout: float | None) -> bool:
    """Cut a socket's time-out down to what is left; return whether there's a limit at all."""
    left = remaining()
    if left is None:
        return False
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    sock.settimeout(left if timeout is None else min(left, timeout))
    return True


def _send_body_at_once(request: Any, **_: object) -> None:
    request.headers.pop("Expect", None)  # it isn't signed


def _needs_retry(
    attempts: int, response: tuple[Any, Any] | None, caught_exception: Exception | None, **_: object
) -> bool | None:
    """Note how the attempt ended; return False if there's to be no other, None if botocore is to decide."""
    _note(response, caught_exception)
    event = abandoned.get()
    if event is not None and event.is_set():
        return False
    left = remaining()
    if left is None:
        return None
    pause = min(2.0 ** (attempts - 1), _LONGEST_PAUSE_S)
    if response is not None and "x-amz-retry-after" in response[0].headers:
        pause += _LONGEST_PAUSE_ASKED_FOR_S
    return None if pause < left else False


def _note(response: tuple[Any, Any] | None, caught_exception: Exception | None) -> None:
    if caught_exception is not None:
        attempts.uncertain |= not isinstance(caught_exception, _NEVER_CONNECTED)
    elif response is not None:
        status = response[0].status_code
        attempts.uncertain |= status >= _SERVER_FAILED and status not in _REFUSED_FOR_NOW
