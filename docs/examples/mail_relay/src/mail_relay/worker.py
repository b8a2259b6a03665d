"""A process that sends mail on."""

from __future__ import annotations

import os
import signal

from mail_relay.delivery import Bounces, Delivery
from mail_relay.life import when_orphaned
from mail_relay.settings import Settings
from mail_relay.spool import open_spool

__all__ = ["run_worker"]


def run_worker(settings: Settings) -> None:
    """Send mail on until SIGTERM comes, or whoever started this process is gone."""
    with open_spool(settings) as queue:
        bounces = Bounces(settings, queue)
        delivery = Delivery(settings, bounces)
        queue.add_handler(delivery)
        queue.add_bounce_handler(bounces)
        when_orphaned(settings.life_fd, lambda: os.kill(os.getpid(), signal.SIGTERM))
        queue.run()
        delivery.stop()
