"""What becomes of the driver's errors: RetrySpool's, told apart by class and SQLSTATE, never by text."""

from __future__ import annotations

import psycopg
from psycopg import errors

from retryspool.deadline import remaining
from retryspool.errors import BackendError, BackendUnavailableError, DeadlineExceededError, Outcome, StorageError
from retryspool_pg_data.connection import NoAnswerError

__all__ = ["RETRIED", "storage_error", "timed_out"]

RETRIED = (errors.DeadlockDetected, errors.SerializationFailure)
"""The server undid the statement because of another one: it may be repeated."""

_REFUSED = ("25006", "53", "57P03")
"""How the codes begin of what the server can't do now, and hasn't: it's a standby, lacks disk or memory, or starts."""
_LOST = ("08", "57P")
"""How the codes begin of connections that have ended."""


def storage_error(doing: str, error: psycopg.Error | NoAnswerError, *, effect: bool, cancelled: bool) -> StorageError:
    """Return the error to raise for the driver's.

    :param doing: what was being done, such as "storing the payload of message 'a'"
    :param effect: whether it changes something, so that the outcome is unknown once the connection is lost
    :param cancelled: whether the statement was cancelled because it took too long
    """
    outcome: Outcome = "unknown" if effect else "none"
    if isinstance(error, NoAnswerError):
        return timed_out(f"{doing}: PostgreSQL doesn't answer", outcome)
    if cancelled and isinstance(error, errors.QueryCanceled):
        return timed_out(f"{doing}: PostgreSQL took too long and has cancelled it", "none")
    text = f"{doing} failed: {_text(error)}"
    code = error.sqlstate
    if code is not None and code.startswith(_REFUSED):
        return BackendUnavailableError(text, outcome="none")
    # Only what libpq finds out by itself, such as the end of a connection, has no code of the server's.
    if code is None and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return BackendUnavailableError(text, outcome=outcome)
    if code is not None and code.startswith(_LOST):
        return BackendUnavailableError(text, outcome=outcome)
    return BackendError(text)


def timed_out(text: str, outcome: Outcome) -> StorageError:
    """Return the error of what took longer than it may, by the caller's deadline or else by our own time-outs."""
    what = "nothing was changed" if outcome == "none" else "whether it was done is unknown"
    if remaining() == 0:
        return DeadlineExceededError(f"{text}; the deadline has passed; {what}")
    return BackendUnavailableError(f"{text}; {what}", outcome=outcome)


def _text(error: psycopg.Error) -> str:
    return " ".join((error.diag.message_primary or str(error) or type(error).__name__).split())
