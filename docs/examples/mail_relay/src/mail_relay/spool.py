"""The spool, as both kinds of process open it."""

from __future__ import annotations

from mail_relay.settings import Settings
from retryspool import Queue
from retryspool_cli.policies import parse_policy

__all__ = ["open_spool"]


def open_spool(settings: Settings) -> Queue:
    """Open the spool, with the same rules wherever it's opened: a message gets some of them when it's stored."""
    return Queue.open(
        settings.spool,
        policies={"mail": parse_policy(settings.retry_policy)},
        retry_policy="mail",
        max_attempts=settings.max_attempts,
        concurrency=settings.concurrency,
        lease_s=settings.lease_s,
        on_bounce="delete",
    )
