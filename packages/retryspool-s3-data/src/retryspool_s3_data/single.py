"""One payload in one request: stored, or stored if there's none yet."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from retryspool.deadline import check_deadline, remaining
from retryspool.errors import BackendUnavailableError, DataExistsError
from retryspool_s3_data.failures import is_conflict, is_missing, is_taken, translating

if TYPE_CHECKING:
    from retryspool_s3_data.store import Store

__all__ = ["conflict", "is_ours", "new_mark", "pause_after_conflict", "put_payload", "storing"]

_MARK = "retryspool-write"
_TRIES = 6
_PAUSE_S = 0.05


def storing(message_id: str) -> str:
    """Return what is being done, for errors."""
    return f"storing the payload of message {message_id!r}"


def new_mark() -> dict[str, str]:
    """Return metadata by which a write knows its own object again."""
    return {_MARK: secrets.token_hex(16)}


def put_payload(store: Store, message_id: str, body: bytes, *, if_absent: bool) -> None:
    """Store a payload.

    A reply that got lost makes botocore send the request again, and the condition then fails on what the first one has
    stored. So each write under a condition is marked, and who finds its own mark was the one that stored it.
    """
    call = store.call(storing(message_id), writes=True)
    if not if_absent:
        with translating(call):
            store.client.put_object(Body=body, **store.at(message_id), **store.how())
        return
    mark = new_mark()
    for number in range(_TRIES):
        with translating(call):
            if _put_if_absent(store, message_id, body, mark) or is_ours(store, message_id, mark):
                return
        pause_after_conflict(number)
    raise conflict(store, message_id)


def _put_if_absent(store: Store, message_id: str, body: bytes, mark: dict[str, str]) -> bool:
    where = store.at(message_id)
    try:
        store.client.put_object(Body=body, IfNoneMatch="*", Metadata=mark, **where, **store.how())
    except ClientError as error:
        if is_taken(error) or is_conflict(error):
            return False
        raise
    return True


def is_ours(store: Store, message_id: str, mark: dict[str, str]) -> bool:
    """Tell whether the payload that is there has this mark; False if there's none at all.

    :raises DataExistsError: there's one, and it has not
    """
    where = store.at(message_id)
    try:
        found = store.client.head_object(**where)
    except ClientError as error:
        if is_missing(error):
            return False
        raise
    if found["Metadata"].get(_MARK) != mark[_MARK]:
        raise DataExistsError(message_id)
    return True


def pause_after_conflict(number: int) -> None:
    """Wait until other writes under the same key may be done, longer each time."""
    left = remaining()
    pause = _PAUSE_S * 2**number
    threading.Event().wait(pause if left is None else min(pause, left))
    check_deadline()


def conflict(store: Store, message_id: str) -> BackendUnavailableError:
    """Return the error of a write under a condition that met others each time."""
    return BackendUnavailableError(
        f"{storing(message_id)}: other writes to it and deletions kept bucket {store.bucket!r} from deciding whether "
        "there's one; nothing was changed, try again",
        outcome="none",
    )
