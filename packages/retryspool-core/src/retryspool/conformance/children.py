"""Processes of the suite's own: each opens the store of a test by its factory, does what it is told, and can be killed.

A factory crosses to them by pickle, so its class must be importable there: the search path is the test's own. Where the
system can, they are forks of one process that has imported everything, and so begin at once; never of the test's own.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext

from retryspool.data import DataFactory
from retryspool.meta import MetaFactory

__all__ = ["PATIENCE_S", "Child", "children", "say"]

PATIENCE_S = 60
"""How long the suite waits for a process to say something, or to end after it was told to."""


class Child:
    """One of them."""

    def __init__(self) -> None:
        context = _context()
        self._hears, hears = context.Pipe(duplex=False)
        told, self._tell = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(told, hears), daemon=True)
        self._process.start()
        hears.close()  # so that its death is the end of what is heard
        told.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def begin(self, function: Callable[..., object], *args: object) -> None:
        """Let it run a function of a module; `line` gets what that says and what it returns."""
        self._tell.send((function, args))

    def line(self) -> object:
        """Return the next thing that it says: what `say` was called with, or what the function returned.

        :raises EOFError: it's dead, and has said all
        :raises TimeoutError: it has said nothing for `PATIENCE_S`
        :raises Exception: what the function raised
        """
        if not self._hears.poll(PATIENCE_S):
            raise TimeoutError(f"process {self.pid} has said nothing for {PATIENCE_S} s")
        try:
            what: object = self._hears.recv()
        except OSError:  # cut off by its death: it never said that
            raise EOFError(f"process {self.pid} is dead") from None
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
        self._process.join(PATIENCE_S)
        self._hears.close()
        self._tell.close()


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


def _context() -> ForkServerContext | SpawnContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["retryspool.conformance", *_installed_factories()])
    return context


def _installed_factories() -> Iterator[str]:
    """Yield the modules of the factories that there are, so that their drivers are imported once for all children."""
    installed = importlib.metadata.packages_distributions()
    for factory in (*MetaFactory.__subclasses__(), *DataFactory.__subclasses__()):
        if factory.__module__.partition(".")[0] in installed:
            yield factory.__module__


# -- inside a child ----------------------------------------------------------------------------------------------------


class _Raised:
    def __init__(self, error: Exception) -> None:
        self.error = error


_aloud: list[Connection] = []
"""What it speaks to the test by, once it serves."""


def say(what: object) -> None:
    """Tell the test something before the function has returned: whole or not at all."""
    _aloud[0].send(what)


def _ready() -> str:
    return "ready"


def _serve(told: Connection, hears: Connection) -> None:
    _aloud.append(hears)
    while True:
        try:
            function, args = told.recv()
        except EOFError:  # nobody has anything more to tell
            return
        try:
            say(function(*args))
        except Exception as error:  # noqa: BLE001 -- the test decides what it means
            say(_Raised(error))
