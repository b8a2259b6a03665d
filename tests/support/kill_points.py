"""A process that dies at its N-th file operation, as by `kill -9`, so that tests can look at what it leaves.

It runs in forks of a process of its own: nothing of it goes on, no `finally`, no lock held any more, and no thread of
the test's is copied.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, Self

_BY_FD = ("close", "fchmod", "fsync", "ftruncate", "pwrite", "write")
_BY_PATH = ("link", "mkdir", "open", "rename", "rmdir", "scandir", "unlink")
_WRITING = ("pwrite", "write")
_KILLED = 9


@dataclass(frozen=True)
class Death:
    """Where the process died: the call that it didn't come to, or half of which it did."""

    call: str


class KillPoints:
    """Runs functions of modules that can be imported, and kills them."""

    def __init__(self) -> None:
        command = [
            sys.executable,
            "-c",
            f"import sys; sys.path[:] = {sys.path!r}; import kill_points; kill_points.serve()",
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, function: str, *args: object, at: int) -> Death | None:
        """Call `module:function` with `args`; it's given another one, to call when the counting is to begin.

        :param at: which file operation it dies at, from 1; one that writes counts twice: before it, and half-way
        :returns: None if it came to its end before that
        :raises RuntimeError: it ended with an error of its own
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([function, args, at]) + "\n")
        self._process.stdin.flush()
        status, text = json.loads(self._process.stdout.readline())
        if status == _KILLED:
            return Death(text)
        if status:
            raise RuntimeError(text)
        return None


def serve() -> None:
    """Fork and run what is asked for on the standard input, until its end."""
    for line in sys.stdin:
        function, args, at = json.loads(line)
        module, _, name = function.partition(":")
        run = getattr(importlib.import_module(module), name)  # before the fork, so that each is quick
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            _run(run, args, at, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        sys.stdout.write(json.dumps([status, text]) + "\n")
        sys.stdout.flush()


def _run(run: Callable[..., object], args: list[object], at: int, pipe: int) -> NoReturn:
    status = 0
    try:
        run(*args, lambda: _die_at(at, pipe))
    except BaseException as error:  # noqa: BLE001 -- whatever it is, the test is told
        os.write(pipe, repr(error).encode())
        status = 1
    os._exit(status)


def _die_at(at: int, pipe: int) -> None:
    count = itertools.count(1)
    write = os.write

    def die(call: str) -> NoReturn:
        with suppress(OSError):
            write(pipe, call.encode())
        os._exit(_KILLED)

    def watching(function: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread().name == "retryspool-fs-meta":  # goes on beside, at its own pace
                return real(*args, **kwargs)
            if next(count) == at:
                die(f"before {function}{args}")
            if function in _WRITING and next(count) == at:
                real(args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
                die(f"in {function}{args}")
            return real(*args, **kwargs)

        return call

    for name in (*_BY_FD, *_BY_PATH):
        setattr(os, name, watching(name, getattr(os, name)))
