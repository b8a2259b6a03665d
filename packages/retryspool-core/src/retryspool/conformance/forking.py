"""What becomes of a backend that is carried over a `fork()`: of children of the suite, for pytest is never forked."""

from __future__ import annotations

import os
import pickle
import select
import signal
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Generic

import pytest

from retryspool.conformance.children import PATIENCE_S, children
from retryspool.conformance.stores import Backend
from retryspool.conformance.suite import needs_capability
from retryspool.errors import BackendClosedError, BackendError

__all__ = ["Forked", "Forks", "fork", "fork_in_child", "needs_fork"]


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
    use: Callable[[Backend, str, int], str]
    """Write and read a message so often; return what is wrong with a reply."""

    def share(self, times: int) -> Forked:
        """Both use the backend."""
        with closing(self._opened()) as backend:
            return fork(lambda: self.use(backend, "parent", times), lambda: self.use(backend, "child", times))

    def close(self, times: int) -> Forked:
        """The child closes the backend, which the parent uses."""
        with closing(self._opened()) as backend:

            def close() -> str:
                backend.close()
                return ""

            return fork(lambda: self.use(backend, "parent", times), close)

    def open_again(self, times: int) -> Forked:
        """The child opens the store for itself."""
        with closing(self._opened()) as backend:

            def use_another() -> str:
                with closing(self.create()) as own:
                    return self.use(own, "child", times)

            return fork(lambda: self.use(backend, "parent", times), use_another)

    def _opened(self) -> Backend:
        backend = self.create()
        for message_id in ("parent", "child"):
            self.store(backend, message_id)
        return backend


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
