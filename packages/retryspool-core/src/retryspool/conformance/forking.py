"""What becomes of a backend that is carried over a `fork()`: of children of the suite, for pytest is never forked."""

from __future__ import annotations

import os
import pickle
import select
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from retryspool.conformance.children import PATIENCE_S
from retryspool.errors import BackendClosedError, BackendError

__all__ = ["Forked", "fork"]


@dataclass(frozen=True, slots=True)
class Forked:
    """What the two came to: nothing where all was well, or what was wrong."""

    parent: str
    child: str
    refused: bool = False
    """Whether the backend refused to work in the child, which it may."""


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
