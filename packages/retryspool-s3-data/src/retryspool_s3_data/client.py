"""Makes the client: one of boto3's kind, without boto3's own session around it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from botocore.config import Config
from botocore.session import get_session

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
    session: Any = get_session()  # one for each client: a shared one isn't safe between threads, nor after a fork
    session.register_component("data_loader", _models())
    client: S3Client = session.create_client(
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


@cache
def _models() -> Any:
    """Return what loads botocore's description of S3, which takes most of a client's time: once a process is enough."""
    return cast("Any", get_session()).get_component("data_loader")
