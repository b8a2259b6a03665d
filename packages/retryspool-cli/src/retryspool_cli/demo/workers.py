"""The demo's workers: processes of `retryspool work`, as anybody would start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["WorkerProcess"]

_NAMES_OF_SPOOLS = {"RETRYSPOOL_SPOOL", "RETRYSPOOL_META", "RETRYSPOOL_DATA"}
"""What would go before `retryspool.toml`."""


class WorkerProcess:
    """One worker.

    :param arguments: of the command, after `retryspool`
    :param log: a file for what it prints, in the folder whose `retryspool.toml` names the spool
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.was_killed = False
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- this very command
                [sys.executable, "-m", "retryspool_cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={name: value for name, value in os.environ.items() if name not in _NAMES_OF_SPOOLS},
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its workers
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill it as `kill -9` does: it gets no chance to tidy up."""
        self.was_killed = True
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout_s: float) -> None:
        """Ask it to end, and make sure that it does."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
