"""What becomes of a backend that is carried over a `fork()`: of children of the suite, for pytest is never forked."""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import warnings
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Generic

import pytest

from retryspool.conformance.children import PATIENCE_S, children
from retryspool.conformance.stores import Backend
from retryspool.conformance.suite import needs_capability
from retryspool.errors import BackendClosedError, BackendError

__all__ = ["Forked", "Forks", "Meet", "fork", "fork_in_child", "needs_fork"]


Meet = Callable[[], None]
"""Waits until the other process, if it's still there, waits too: then both go on at the same moment."""


@dataclass(frozen=True, slots=True)
class Forked:
    """What the two came to: nothing where all was well, or what was wrong."""

    parent: str
    child: str
    refused: bool = False
    """Whether the backend refused to work in the child, which it may."""


@dataclass(frozen=True, slots=True)
class Forks(Generic[Backend]):
    """What parent and child do with a backend that was carried over, each with the message of its name."""

    create: Callable[[], Backend]
    """Open the store."""
    store: Callable[[Backend, str], object]
    """Store a message, as it is before the fork: so what connections there are were used."""
    use: Callable[[Backend, str, int, Meet], str]
    """Write and read a message so often, both at the moment when the other does; return what is wrong with a reply."""

    def share(self, times: int) -> Forked:
        """Both use the backend."""
        with closing(self._opened()) as backend:
            one, other = _meeting()
            return fork(
                lambda: self._use(backend, "parent", times, one), lambda: self._use(backend, "child", times, other)
            )

    def close(self, times: int) -> Forked:
        """The child closes the backend, which the parent uses."""
        with closing(self._opened()) as backend:

            def close() -> str:
                backend.close()
                return ""

            return fork(lambda: self.use(backend, "parent", times, _alone), close)

    def open_again(self, times: int) -> Forked:
        """The child opens the store for itself."""
        one, other = _meeting()
        with closing(self._opened()) as backend:

            def use_another() -> str:
                with closing(self.create()) as own:
                    return self._use(own, "child", times, other)

            return fork(lambda: self._use(backend, "parent", times, one), use_another)

    def _use(self, backend: Backend, message_id: str, times: int, side: _Side) -> str:
        with side.taken() as meet:
            return self.use(backend, message_id, times, meet)

    def _opened(self) -> Backend:
        backend = self.create()
        for message_id in ("parent", "child"):
            self.store(backend, message_id)
        return backend


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of a meeting."""

    own: socket.socket
    other: socket.socket

    @contextmanager
    def taken(self) -> Generator[Meet]:
        """Take this side, after the fork, and leave it at the end: then the other waits no more."""
        self.other.close()
        self.own.settimeout(PATIENCE_S / 2)
        with self.own:
            yield self._meet

    def _meet(self) -> None:
        with suppress(OSError):  # the other is gone
            self.own.send(b".")
            self.own.recv(1)


def _meeting() -> tuple[_Side, _Side]:
    one, other = socket.socketpair()
    return _Side(one, other), _Side(other, one)


def _alone() -> None:
    """Meet nobody."""


def needs_fork(capabilities: object) -> None:
    """Skip the test if the backend isn't for processes, or the system has no fork."""
    needs_capability(capabilities, "processes")
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")


def fork_in_child(run: Callable[[int], Forked], times: int) -> Forked:
    """Let a child of the suite do what `Forks` has; return what it came to."""
    with children(1) as (child,):
        forked = child.call(run, times)
    assert isinstance(forked, Forked)
    return forked


def fork(in_parent: Callable[[], str], in_child: Callable[[], str]) -> Forked:
    """Fork, and run both at the same time; return what both return."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: a backend may have some, and is to bear it
        pid = os.fork()
    if pid == 0:
        os.close(read)
        _be_the_child(in_child, write)
    os.close(write)
    try:
        parent = _outcome(in_parent)[0]
        child, refused = _hear(read)
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return Forked(parent, child, refused)


def _be_the_child(run: Callable[[], str], write: int) -> None:
    try:
        os.write(write, pickle.dumps(_outcome(run)))
    finally:
        os._exit(0)  # none of what the parent would do at its end is done twice


def _outcome(run: Callable[[], str]) -> tuple[str, bool]:
    """Return what is wrong, and whether that is a refusal."""
    try:
        return run(), False
    except (BackendClosedError, BackendError) as error:
        return repr(error), True
    except Exception as error:  # noqa: BLE001 -- told to the test
        return f"{type(error).__name__}: {error}", False


def _hear(read: int) -> tuple[str, bool]:
    ready, _, _ = select.select([read], [], [], PATIENCE_S / 2)
    said = os.read(read, 65_536) if ready else b""
    if not said:
        return "it died without a word" if ready else "it hangs", False
    outcome: tuple[str, bool] = pickle.loads(said)  # noqa: S301 -- our own child
    return outcome
