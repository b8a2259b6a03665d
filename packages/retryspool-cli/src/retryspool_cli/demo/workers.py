"""The demo's workers: processes of `retryspool work`, as anybody would start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from retryspool_cli.exits import CommandError

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
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- this very command
                [sys.executable, "-m", "retryspool_cli", "-v", *arguments],
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
    def has_begun(self) -> bool:
        """Whether it takes messages: it says so in its log, by the name of its leases' owner.

        :raises CommandError: it has ended instead
        """
        said = self._log.read_text(encoding="utf-8", errors="replace")
        if self._process.poll() is not None:
            msg = f"{self.name} ended before it began: {said.strip() or 'it said nothing'}"
            raise CommandError(msg)
        return self.is_owner_in(said)

    def is_owner_in(self, text: str) -> bool:
        """Whether the owner of its leases is named in a text."""
        return f".{self.pid}." in text

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
