"""What all servers have in common: they are started, watched, stopped, killed, and nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from retryspool_cli.servers import guard
from retryspool_cli.servers.errors import ServerError
from retryspool_cli.servers.ports import HOST, free_ports

__all__ = ["Server"]

_POLL_S = 0.02
_LOG_LINES = 30
"""How much of the log an error shows."""


class Server(ABC):
    """A server on a free port of the loopback interface, which stops with this process, even if that is killed.

    :param folder: for its data and its log, and kept; without one, a temporary folder that is removed
    :param keep_until: a FIFO: the server outlives this process, until nobody has the FIFO open for writing any more
    """

    title: ClassVar[str]
    """What it is called in errors."""
    time_limit_s: float = 30
    """How long it may take to come up."""
    host = HOST

    _port_count: ClassVar[int] = 1
    _second_port: ClassVar[int] = 0
    _stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    _grace_s: ClassVar[float] = 10
    _ready_line: ClassVar[str] = ""
    """What the log says once this very server, not another one on its port, is ready."""
    _transient: ClassVar[Sequence[str]] = ("address already in use",)
    """What the log says of failures that another try may mend; in lower case."""

    def __init__(self, folder: Path | None = None, *, keep_until: Path | None = None) -> None:
        self._own_folder = folder is None
        self._folder = folder
        self._keep_until = keep_until
        self._guard: subprocess.Popen[bytes] | None = None
        self._ports: tuple[int, ...] = ()
        self._log_begins = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """The backend's URL, credentials included."""

    @property
    def port(self) -> int:
        """The port that it serves; the same after a restart."""
        if not self._ports:
            msg = f"{self.title} has no port before start()"
            raise ServerError(msg)
        return self._ports[0]

    @property
    def folder(self) -> Path:
        """Where its data and its log are."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="retryspool-server-"))
        return self._folder

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._guard is not None and self._guard.poll() is None

    def log(self) -> str:
        """Return all that it has printed."""
        try:
            return self._log_path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    # -- start and stop ------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, and return when it is ready. Does nothing if it runs already.

        :raises MissingWheelError: its wheel isn't installed
        :raises ServerError: it ended, or isn't ready in time
        """
        if self.is_running:
            return self
        until = time.monotonic() + self.time_limit_s
        keeps_port = bool(self._ports)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._prepare()
            while True:
                if not keeps_port:
                    self._ports = free_ports(self._port_count, second=self._second_port)
                self._launch()
                if self._wait_until_ready(until):
                    return self
        except BaseException:
            self._end(signal.SIGUSR1)
            if not keeps_port:
                self._ports = ()
                self._remove()
            raise

    def stop(self) -> None:
        """Let it end in order. A temporary folder is removed, and with it the data. May be called again."""
        self._end(signal.SIGTERM)
        self._remove()

    def kill(self) -> None:
        """Kill it as `kill -9` does. Port and data stay for the next `start()`."""
        self._end(signal.SIGUSR1)

    def restart(self, *, kill: bool = False) -> None:
        """Stop it in order, or kill it, and start it again with the same port and data."""
        self._end(signal.SIGUSR1 if kill else signal.SIGTERM)
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # -- what a kind of server says ------------------------------------------------------------------------------------

    @abstractmethod
    def _prepare(self) -> None:
        """Find the wheel, and make what the command needs in `folder`. Called before each start."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the command line; it stays in the foreground and logs to its output."""

    @abstractmethod
    def _answers(self) -> bool:
        """Ask it. Anything else than an answer that says that it's ready is False, or an OSError."""

    def _user(self) -> tuple[int, int] | None:
        """Return the ids of the user and group to run it as, where that's not this process's own."""
        return None

    # -- its process ---------------------------------------------------------------------------------------------------

    @property
    def _log_path(self) -> Path:
        return self.folder / "server.log"

    def _launch(self) -> None:
        user, group = self._user() or (None, None)
        order = guard.Order(
            command=[str(part) for part in self._command()],
            folder=str(self.folder),
            user=user,
            group=group,
            stop_signal=self._stop_signal,
            grace_s=self._grace_s,
            remove=[str(path) for path in self._litter()],
        )
        lifeline = subprocess.PIPE if self._keep_until is None else os.open(self._keep_until, os.O_RDONLY)
        try:
            with self._log_path.open("ab") as log:
                self._log_begins = log.tell()
                self._guard = subprocess.Popen(  # noqa: S603 -- our own program
                    [sys.executable, "-I", "-S", guard.__file__, json.dumps(asdict(order))],
                    stdin=lifeline,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for this process, which then ends the server
                )
        finally:
            if self._keep_until is not None:
                os.close(lifeline)

    def _wait_until_ready(self, until: float) -> bool:
        """Return whether it is ready; False: try again."""
        assert self._guard is not None  # noqa: S101 -- it has just been launched
        while True:
            try:
                code = self._guard.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                code = None
            said = self._log_since_launch()
            if code is None and self._ready_line in said:
                try:
                    if self._answers() and self._guard.poll() is None:
                        return True
                except OSError:
                    pass  # not yet
            if code is not None and time.monotonic() < until and any(text in said.lower() for text in self._transient):
                self._end(signal.SIGUSR1)
                return False
            if code is not None or time.monotonic() >= until:
                how = "isn't ready" if code is None else f"ended with exit code {code}, and wasn't ready"
                msg = f"{self.title} {how} in {self.time_limit_s:g} s; its log ends with:\n{_end_of(said)}"
                raise ServerError(msg)

    def _log_since_launch(self) -> str:
        with self._log_path.open("rb") as log:
            log.seek(self._log_begins)
            return log.read().decode(errors="replace")

    def _end(self, how: signal.Signals) -> None:
        """Tell the guard, and wait until the server is gone."""
        if self._guard is not None:
            self._guard.send_signal(how)
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None

    def _litter(self) -> Sequence[Path]:
        """Return what is to be removed in the end."""
        return [self._folder] if self._own_folder and self._folder is not None else []

    def _remove(self) -> None:
        guard.remove(self._litter())
        if self._own_folder:
            self._folder = None


def _end_of(log: str) -> str:
    return "\n".join(f"    {line}" for line in log.splitlines()[-_LOG_LINES:]) or "    (it said nothing)"
