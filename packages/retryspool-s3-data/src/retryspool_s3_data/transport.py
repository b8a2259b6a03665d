"""Makes the requests of a boto3 client keep to the deadline. It's the only place that reaches into botocore.

A botocore client has one time-out for connecting and one for reading, the same for all requests, and sleeps between
its attempts. What is changed here:

- Its connection pools cut each request's time-outs down to what is left, and so do the connections for each piece
  that they send. (By itself, the time-out for connecting bounds the sending of a whole body.)
- It makes no further attempt when the longest pause before that wouldn't fit in what is left.
- It notes whether an attempt that failed may have had its effect.
"""

# ruff: noqa: SLF001 -- botocore and urllib3 have no public way to any of this

from __future__ import annotations

import threading
from contextvars import ContextVar
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
    cast("Any", client.meta.events).register_first("needs-retry.s3", _needs_retry, unique_id="retryspool-s3-data")


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
    """A pool that gives each request the time that is left, at most."""

    def urlopen(self, *args: Any, **kwargs: Any) -> Any:
        left = remaining()
        if left is not None:
            if left <= 0:
                raise PoolConnectTimeoutError("the deadline has passed")
            asked: Any = kwargs.get("timeout") or self.timeout
            kwargs["timeout"] = Timeout(total=left, connect=asked._connect, read=asked._read)
        return super().urlopen(*args, **kwargs)


class _Connection(_ConnectionBase):
    """A connection whose time-out while sending is one of each piece, and not that of connecting for the whole."""

    send_timeout: float | None
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
            self._limit(self.sock)
            super().send(piece)

    def getresponse(self) -> Any:
        sock = self.sock  # the response may take it over
        response = super().getresponse()
        self._limit(sock)  # what the headers took is no more left for the body
        return response

    def _limit(self, sock: Any) -> None:
        left = remaining()
        if sock is not None and left is not None and sock.fileno() >= 0:
            sock.settimeout(max(0.001, left if self.timeout is None else min(left, self.timeout)))


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
