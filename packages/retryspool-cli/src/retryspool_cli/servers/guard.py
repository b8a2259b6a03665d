"""Runs a server for as long as somebody holds the other end of this process's standard input.

It is a program of its own, run as a file and importing nothing of ours: whoever started it may be killed with
`kill -9`, and the server still goes, as does its folder. Its one argument is an `Order` as JSON. SIGTERM has it stop
the server, SIGUSR1 kill it; it ends with the server, and with the server's exit code.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

__all__ = ["Order", "remove"]

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `user` and `group` are ids, or None for the present ones."""

    command: list[str]
    folder: str
    user: int | None
    group: int | None
    stop_signal: int
    grace_s: float
    """How long it may take to stop, before it's killed."""
    remove: list[str]
    """Files and folders to remove once nobody holds the other end any more."""


def _main() -> int:
    order = Order(**json.loads(sys.argv[1]))
    server = subprocess.Popen(  # noqa: S603 -- what the caller asks for
        order.command,
        stdin=subprocess.DEVNULL,
        cwd=order.folder,
        process_group=0,
        user=order.user,
        group=order.group,
        extra_groups=None if order.user is None else [],
        preexec_fn=_die_with_me,  # noqa: PLW1509 -- there are no threads yet
    )
    released = threading.Event()

    def stop() -> None:
        server.send_signal(order.stop_signal)
        timer = threading.Timer(order.grace_s, server.kill)
        timer.daemon = True
        timer.start()

    def watch() -> None:
        while os.read(0, 1):
            pass
        released.set()
        stop()

    def obey(number: int, frame: FrameType | None) -> None:
        del frame
        if number == signal.SIGTERM:
            stop()
        else:
            server.kill()

    signal.signal(signal.SIGTERM, obey)
    signal.signal(signal.SIGUSR1, obey)
    threading.Thread(target=watch, daemon=True).start()
    code = server.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)  # what it has left behind
    if released.is_set():
        remove(order.remove)
    return code if code >= 0 else 128 - code


def remove(paths: Iterable[str | Path]) -> None:
    """Remove files and folders, if they are there."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            Path(path).unlink()


def _die_with_me() -> None:
    """Have the kernel kill the server if this process is killed itself. Only Linux does so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(_main())
