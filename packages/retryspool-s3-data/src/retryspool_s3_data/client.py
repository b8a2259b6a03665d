"""Makes boto3's client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config

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
    session: Any = boto3.session.Session()  # one of our own: boto3's default one isn't safe to share between threads
    client: S3Client = session.client(
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
