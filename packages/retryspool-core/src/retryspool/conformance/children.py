"""Processes of the suite's own: each opens the store of a test by its factory, does what it is told, and can be killed.

A factory crosses to them by pickle, so its class must be importable there: the search path is the test's own.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

__all__ = ["PATIENCE_S", "Child", "children", "say"]

PATIENCE_S = 60
"""How long the suite waits for a process to end after it was told to."""

_COMMAND = "import sys; sys.path[:] = {path!r}; from retryspool.conformance import children; children.serve()"


class Child:
    """One of them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 -- this very Python
            [sys.executable, "-c", _COMMAND.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def begin(self, function: Callable[..., object], *args: object) -> None:
        """Let it run a function of a module; `line` gets what that says and what it returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(_encode((function, args)))
        self._process.stdin.flush()

    def line(self) -> object:
        """Return the next thing that it says: what `say` was called with, or what the function returned.

        :raises EOFError: it's dead, and has said all
        :raises Exception: what the function raised
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):  # cut off by its death: it never said that
            raise EOFError(f"process {self.pid} is dead")
        what = pickle.loads(b64decode(line))  # noqa: S301 -- our own child
        if isinstance(what, _Raised):
            raise what.error
        return what

    def call(self, function: Callable[..., object], *args: object) -> object:
        """Run a function in it and return what that returns, or the first thing that it says."""
        self.begin(function, *args)
        return self.line()

    def kill(self) -> list[object]:
        """Kill it as `kill -9` does; return what it had said that nobody has heard yet."""
        self._process.kill()
        unheard: list[object] = []
        try:
            while True:
                unheard.append(self.line())
        except EOFError:
            pass
        self.end()
        return unheard

    def end(self) -> None:
        """Make sure that it's gone."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # it died with something still unsaid to it
                    stream.close()


@contextmanager
def children(number: int) -> Generator[Sequence[Child]]:
    """Start some, ready to run; they are gone at the end."""
    started = [Child() for _ in range(number)]
    try:
        for child in started:
            child.begin(_ready)
        for child in started:
            assert child.line() == "ready"
        yield started
    finally:
        for child in started:
            child.end()


class _Raised:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _encode(what: object) -> bytes:
    return b64encode(pickle.dumps(what)) + b"\n"


def _ready() -> str:
    return "ready"


def say(what: object) -> None:
    """Tell the test something before the function has returned: in one write, whole or not at all."""
    sys.stdout.buffer.write(_encode(what))
    sys.stdout.buffer.flush()


def serve() -> None:
    """Run what the standard input asks for. The child's main function."""
    for line in sys.stdin.buffer:
        function, args = pickle.loads(b64decode(line))  # noqa: S301 -- our own parent
        try:
            say(function(*args))
        except Exception as error:  # noqa: BLE001 -- the test decides what it means
            say(_Raised(error))
