"""Makes the client: one of boto3's kind, without boto3's own session around it."""

from __future__ import annotations

from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config
from botocore.handlers import BUILTIN_HANDLERS, REGISTER_FIRST, REGISTER_LAST
from botocore.hooks import EventAliaser, HierarchicalEmitter
from botocore.session import Session

from retryspool_s3_data.transport import keep_to_deadlines

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from retryspool_s3_data.factory import S3DataFactory

__all__ = ["make_client"]

_CONNECTIONS_BESIDE = 32
"""How many connections are kept for requests beside one payload's parts; more of them are made when needed."""


def make_client(settings: S3DataFactory) -> S3Client:
    """Make a client by the settings; or take the one that was passed in, which keeps to deadlines from then on."""
    if settings.client is not None:
        keep_to_deadlines(settings.client)
        return settings.client
    config = Config(
        s3={"addressing_style": cast("Any", settings.addressing)},
        retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.timeout,
        max_pool_connections=settings.concurrency + _CONNECTIONS_BESIDE,
        tcp_keepalive=True,
        user_agent_extra="retryspool",
    )
    client: S3Client = _new_session().create_client(
        "s3",
        config=config,
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        aws_session_token=settings.session_token,
    )
    keep_to_deadlines(client, settings.timeout)
    return client


def _new_session() -> Any:
    """Return a session of its own for a client: a shared one isn't safe between threads, nor after a fork.

    It also remembers the credentials and the configuration that it finds, and the next client is to find its own.
    """
    session: Any = Session(event_hooks=copy(_handlers()), include_builtin_handlers=False)
    session.register_component("data_loader", _models())
    return session


# What sessions have in common takes most of a client's time, and once a process is enough.


@cache
def _handlers() -> Any:
    """Return botocore's own handlers of events, to be copied: registering them looks at the signature of each."""
    handlers = HierarchicalEmitter()
    events: Any = EventAliaser(handlers)
    ways = {(): events.register, (REGISTER_FIRST,): events.register_first, (REGISTER_LAST,): events.register_last}
    for event, handler, *way in cast("Any", BUILTIN_HANDLERS):
        ways[tuple(way)](event, handler)
    return handlers


@cache
def _models() -> Any:
    """Return what loads botocore's description of S3."""
    return cast("Any", Session()).get_component("data_loader")
