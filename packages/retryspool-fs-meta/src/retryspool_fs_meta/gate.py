"""The gate that every call of a backend goes through."""

from __future__ import annotations

import os
import threading
from types import TracebackType

from retryspool.deadline import check_deadline
from retryspool.errors import BackendClosedError, BackendError, RetrySpoolError
from retryspool.files import disk_error

__all__ = ["Gate"]


class Gate:
    """Lets calls in while the backend is open, and lets it close when they are out: no file is closed under a call.

    A disk's error on the way out becomes a `BackendError`.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._inside = 0
        self._changed = threading.Condition(threading.Lock())

    def enter(self) -> None:
        """Go in.

        :raises BackendClosedError: it's closed
        :raises BackendError: the process was forked since
        :raises DeadlineExceededError: the time allowed is over
        """
        if os.getpid() != self._pid:
            msg = f"these files were opened by process {self._pid}, which forked this one; open them anew here"
            raise BackendError(msg)
        check_deadline()
        with self._changed:
            if self._closed:
                raise BackendClosedError
            self._inside += 1

    def leave(self) -> None:
        """Go out."""
        with self._changed:
            self._inside -= 1
            if self._closed:
                self._changed.notify_all()

    def passing(self, what: str, message_id: str = "") -> Passage:
        """Go in and out with a block.

        :param what: what the block does, for the error of a disk that fails: `"storing message"`
        """
        return Passage(self, what, message_id)

    def close(self) -> bool:
        """Let nobody in any more, and wait until all are out; tell whether it was this call that closed it.

        In a forked process there's nothing to close: files and signs of life are those of the process that opened them.
        """
        if os.getpid() != self._pid:
            return False
        with self._changed:
            if self._closed:
                return False
            self._closed = True
            self._changed.wait_for(lambda: not self._inside)
            return True


class Passage:
    """One call's way through the gate."""

    __slots__ = ("_gate", "_message_id", "_what")

    def __init__(self, gate: Gate, what: str, message_id: str) -> None:
        self._gate = gate
        self._what = what
        self._message_id = message_id

    def __enter__(self) -> None:
        self._gate.enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._gate.leave()
        # DeadlineExceededError is a TimeoutError, and so an OSError of ours.
        if isinstance(error, OSError) and not isinstance(error, RetrySpoolError):
            what = f"{self._what} {self._message_id!r}" if self._message_id else self._what
            raise disk_error(what, error) from error
