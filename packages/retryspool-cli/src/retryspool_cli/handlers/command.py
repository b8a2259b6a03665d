"""Deliveries by a command of the user's: `retryspool work --exec`.

The payload is the command's standard input; what is known of the message is in its environment. Its exit code says what
becomes of the message, as in Postfix's `pipe` and `sysexits.h`. What `sysexits.h` doesn't name is retried, where
Postfix bounces: a script that crashes shouldn't cost messages.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, BinaryIO

from retryspool import PermanentError, RetryableError
from retryspool.queue import Message
from retryspool_cli.records import record_json

__all__ = ["PERMANENT", "TEMPORARY", "CommandHandler", "environment"]

PERMANENT: Mapping[int, str] = {
    64: "EX_USAGE, wrong usage of the command",
    65: "EX_DATAERR, the payload isn't right",
    66: "EX_NOINPUT, an input is missing",
    67: "EX_NOUSER, no such user",
    68: "EX_NOHOST, no such host",
    69: "EX_UNAVAILABLE, the service is unavailable",
    70: "EX_SOFTWARE, an internal error",
    72: "EX_OSFILE, a system file is missing",
    73: "EX_CANTCREAT, the output can't be created",
    74: "EX_IOERR, an input/output error",
    76: "EX_PROTOCOL, an error in the protocol",
    77: "EX_NOPERM, permission denied",
    78: "EX_CONFIG, a configuration error",
}
"""The exit codes that bounce a message: those that are permanent in Postfix (`src/global/sys_exits.c`)."""

TEMPORARY: Mapping[int, str] = {71: "EX_OSERR, a system error", 75: "EX_TEMPFAIL, try again later"}
"""The exit codes of `sysexits.h` that defer it. Any other code but 0 does too."""

_TAIL_BYTES = 2000
"""How much of the command's output is kept for `last_error`."""
_TERM_GRACE_S = 5.0
"""How long after SIGTERM the command's processes get SIGKILL."""
_DRAIN_S = 1.0
"""How long its output is read on when the command has ended."""


class CommandHandler:
    """Run a shell command for each message.

    Each runs in a process group of its own; what is left of that when the command has ended is killed.

    :param timeout_s: how long one may run; longer, and it is killed and the message deferred
    """

    def __init__(self, command: str, *, timeout_s: float | None = None) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def __call__(self, message: Message, payload: BinaryIO) -> None:
        """Run the command once."""
        process = self._start(message)
        output = _Tail(process.stdout)
        feeder = threading.Thread(target=_feed, args=(payload, process.stdin), daemon=True)
        feeder.start()
        try:
            code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGTERM)
            _wait_or_kill(process)
            msg = f"the command ran longer than {self._timeout_s:g} s and was killed{output.text()}"
            raise RetryableError(msg) from None
        finally:
            self._forget(process)
            _signal_group(process, signal.SIGKILL)
            feeder.join(_DRAIN_S)
        self._judge(code, output)

    def _start(self, message: Message) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise RetryableError("the worker is stopping")
            process = subprocess.Popen(  # noqa: S602 -- the command is the operator's, nothing of a message is in it
                self._command,
                shell=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment(message)},
                start_new_session=True,
            )
            self._running.add(process)
            return process

    def _judge(self, code: int, output: _Tail) -> None:
        if code == 0:
            return
        if self._stopped and code < 0:
            raise RetryableError("the worker stopped, and the command with it")
        if code in PERMANENT:
            raise PermanentError(f"exit code {code} ({PERMANENT[code]}){output.text()}")
        if code < 0:
            raise RetryableError(f"the command was killed by signal {-code}{output.text()}")
        name = f" ({TEMPORARY[code]})" if code in TEMPORARY else ""
        raise RetryableError(f"exit code {code}{name}{output.text()}")

    def stop(self) -> None:
        """Kill what runs, and refuse what comes: for a worker that has waited long enough."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for process in running:
            if process.returncode is None:  # else its number may be somebody else's already
                _signal_group(process, signal.SIGTERM)
        for process in running:
            _wait_or_kill(process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running.discard(process)


def environment(message: Message) -> dict[str, str]:
    """Return what a command is told: `RETRYSPOOL_ID` …, `RETRYSPOOL_HEADER_<NAME>`, and as JSON `RETRYSPOOL_RECORD`."""
    variables = {
        "ID": message.id,
        "ATTEMPTS": str(message.attempts),
        "MAX_ATTEMPTS": str(message.max_attempts),
        "DELIVERIES": str(message.deliveries),
        "CREATED": message.created.isoformat(),
        "SIZE": str(message.size),
        "PRIORITY": str(message.priority),
        "ROUTE": message.route,
        "LAST_ERROR": message.last_error,
        "RECORD": json.dumps(record_json(message.record)),
    }
    for name, value in message.headers.items():
        variable = "".join(char if char.isascii() and char.isalnum() else "_" for char in name).upper()
        variables[f"HEADER_{variable}"] = value
    # A NUL ends a variable; in RETRYSPOOL_RECORD it is escaped. A lone surrogate can't be encoded.
    return {
        f"RETRYSPOOL_{name}": value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
        for name, value in variables.items()
    }


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process that was asked to end has ended; make it end if it doesn't."""
    try:
        process.wait(_TERM_GRACE_S)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _feed(payload: BinaryIO, stdin: IO[bytes] | None) -> None:
    """Write the payload; a command that doesn't read it all, or that ended, is no error."""
    if stdin is None:
        return
    with suppress(OSError, ValueError), stdin:
        while chunk := payload.read(65536):
            stdin.write(chunk)


class _Tail:
    """The end of what a process prints, read while it runs so that it never waits for its reader."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._kept = b""
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        if self._stream is None:
            return
        with suppress(OSError, ValueError), self._stream:
            while chunk := os.read(self._stream.fileno(), 65536):
                self._kept = (self._kept + chunk)[-_TAIL_BYTES:]

    def text(self) -> str:
        """Return it as the end of a sentence."""
        self._thread.join(_DRAIN_S)
        text = self._kept.decode("utf-8", "replace").strip()
        return f": {text}" if text else ""
