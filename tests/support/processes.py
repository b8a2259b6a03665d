"""Processes that share a spool with a test: each runs functions of modules, in an interpreter of its own."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

PATIENCE_S = 40

_COMMAND = "import sys; sys.path[:] = {path!r}; import processes; processes.serve()"


class Process:
    """One of them: it runs `module:function` when told to, and returns what can be written as JSON."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _COMMAND.format(path=sys.path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin
        self._out = self._process.stdout

    def begin(self, function: str, *args: object) -> None:
        """Let it run a function; it says when it is done."""
        self._in.write(json.dumps([function, args]) + "\n")
        self._in.flush()

    def line(self) -> object:
        """Wait for the next thing that it says: what `say` was called with, or what the function returned."""
        line = self._out.readline()
        assert line, "it died"
        return json.loads(line)

    def call(self, function: str, *args: object) -> object:
        """Run a function in it and return what that returns."""
        self.begin(function, *args)
        return self.line()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_stopped(self) -> None:
        """Wait until it has stopped itself, by SIGSTOP."""
        assert os.WIFSTOPPED(os.waitpid(self.pid, os.WUNTRACED)[1]), "it died"

    def go_on(self) -> None:
        """Let it go on after it was stopped."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._in.close()
        self._out.close()


@contextmanager
def processes(number: int) -> Iterator[Sequence[Process]]:
    """Start some, ready to run; kill them at the end."""
    started = [Process() for _ in range(number)]
    try:
        for each in started:
            each.begin("processes:ready")
        for each in started:
            assert each.line() == "ready"
        yield started
    finally:
        for each in started:
            each.kill()


def ready() -> str:
    return "ready"


def say(what: object) -> None:
    """Tell the test something before the function has returned."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def serve() -> None:
    """Run what the standard input asks for."""
    for line in sys.stdin:
        function, args = json.loads(line)
        module, _, name = function.partition(":")
        say(getattr(importlib.import_module(module), name)(*args))
