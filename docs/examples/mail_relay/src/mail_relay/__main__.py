"""`python -m mail_relay`, and `mail-relay`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from mail_relay.front import run_front
from mail_relay.settings import parse_settings
from mail_relay.supervisor import run_supervisor
from mail_relay.worker import run_worker

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the relay, or the one of its processes that the command line names.

    :returns: the exit code
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    settings = parse_settings(arguments)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {settings.role}[%(process)d] %(name)s: %(message)s")
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's, which tells each command
    match settings.role:
        case "front":
            run_front(settings)
        case "worker":
            run_worker(settings)
        case _:
            return run_supervisor(settings, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
