"""The process that is started: it opens the port, starts the others, and starts again whichever dies."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from mail_relay.settings import Settings

__all__ = ["run_supervisor"]

_log = logging.getLogger(__name__)

_GRACE_S = 40.0
"""How long a stop waits for the others: longer than they wait themselves."""
_LONGEST_PAUSE_S = 10.0


@dataclass(slots=True)
class _Child:
    """One of the processes: which it is, and how it does."""

    role: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause_s: float = 0.1
    start_at: float = field(default_factory=time.monotonic)


def run_supervisor(settings: Settings, arguments: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT comes.

    :returns: the exit code
    """
    family = socket.AF_INET6 if ":" in settings.listen.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.listen.host, settings.listen.port), family=family, backlog=512)
    except OSError as error:
        _log.error("can't listen at %s: %s", settings.listen, error)
        return 1
    with listener:
        life, other_end = os.pipe()  # nobody writes: that its end is closed says that this process is gone
        _Supervisor(settings, [*arguments, f"--listen-fd={listener.fileno()}", f"--life-fd={life}"]).run(
            (listener.fileno(), life)
        )
        os.close(other_end)
        os.close(life)
    return 0


class _Supervisor:
    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._children = [_Child(role) for role in ["front"] * settings.fronts + ["worker"] * settings.workers]
        self._events: SimpleQueue[_Child | None] = SimpleQueue()

    def run(self, fds: tuple[int, int]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self._events.put(None))
        while True:
            wait_s = self._start_due(fds)
            try:
                child = self._events.get(timeout=wait_s)
            except Empty:
                continue
            if child is None:
                break
            self._ended(child)
        self._stop()

    def _start_due(self, fds: tuple[int, int]) -> float | None:
        """Start what is to run by now, and return in how many seconds the next is to be started."""
        waiting = [child for child in self._children if child.process is None]
        for child in waiting:
            if child.start_at <= time.monotonic():
                self._start(child, fds)
        left = [child.start_at - time.monotonic() for child in waiting if child.process is None]
        return max(0.0, min(left)) if left else None

    def _start(self, child: _Child, fds: tuple[int, int]) -> None:
        command = [sys.executable, "-m", "mail_relay", *self._arguments, f"--role={child.role}"]
        child.process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)  # noqa: S603 -- this program again
        child.started = time.monotonic()
        _log.info("started %s, process %d", child.role, child.process.pid)
        threading.Thread(target=self._watch, args=(child, child.process), daemon=True).start()

    def _watch(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._events.put(child)

    def _ended(self, child: _Child) -> None:
        """Note that a process is to be started again: soon, but later and later if it never runs for long."""
        lasted = time.monotonic() - child.started
        child.pause_s = 0.1 if lasted > _LONGEST_PAUSE_S else min(2 * child.pause_s, _LONGEST_PAUSE_S)
        child.start_at = time.monotonic() + child.pause_s
        code = child.process.returncode if child.process is not None else 0
        child.process = None
        _log.warning("a %s ended with %d, and is started again in %.1f s", child.role, code, child.pause_s)

    def _stop(self) -> None:
        """Let them end: first those that take mail."""
        until = time.monotonic() + _GRACE_S
        for role in ("front", "worker"):
            running = [child.process for child in self._children if child.role == role and child.process is not None]
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
