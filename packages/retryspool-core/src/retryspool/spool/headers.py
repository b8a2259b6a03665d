"""Headers: those that are the user's, which may be stored sealed, and those that RetrySpool keeps for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from retryspool.model import MessageMetadata
from retryspool.spool.stages import Stages

__all__ = [
    "ENCODING_HEADER",
    "OWN_HEADERS",
    "SEALED_HEADER",
    "open_headers",
    "own_headers",
    "stored_headers",
    "user_headers",
    "with_headers",
]

OWN_HEADERS = "x-retryspool-"
"""What the names of headers begin with that RetrySpool keeps for itself: users' values of such names are left out."""
ENCODING_HEADER = "x-retryspool-encoding"
"""The header that names the middleware a payload went through, in order, separated by commas."""
SEALED_HEADER = "x-retryspool-sealed"
"""The header that stands for all of the user's where they are sealed: the middleware's name, a colon, and its text."""


def user_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are the user's."""
    return {name: value for name, value in headers.items() if not name.startswith(OWN_HEADERS)}


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that RetrySpool keeps for itself."""
    return {name: value for name, value in headers.items() if name.startswith(OWN_HEADERS)}


def with_headers(stages: Stages, record: MessageMetadata, headers: Mapping[str, str]) -> MessageMetadata:
    """Return the record with these headers in place of the user's: sealed if they were, or new ones are.

    :raises BackendError: they were sealed, and the middleware for it is missing
    """
    return replace(record, headers=stored_headers(stages, record.id, own_headers(record.headers), headers))


def stored_headers(
    stages: Stages, message_id: str, own: Mapping[str, str], headers: Mapping[str, str]
) -> dict[str, str]:
    """Return what is stored of a message's headers: the user's, sealed if `own` says that they were, or new ones are.

    :param own: those that RetrySpool keeps for itself
    :param headers: what the user's are taken from
    :raises BackendError: they were sealed, and the middleware for it is missing
    """
    beside = dict(own)
    before = beside.pop(SEALED_HEADER, "").partition(":")[0]
    users = user_headers(headers)
    sealing = stages.sealing
    if sealing is None and before:
        sealing = stages.decoder(before, _headers_of(message_id))
    if sealing is not None and users:
        return {**beside, SEALED_HEADER: f"{sealing.name}:{sealing.seal_headers(message_id, users)}"}
    return {**users, **beside}


def open_headers(stages: Stages, record: MessageMetadata) -> MessageMetadata:
    """Return the record with its headers as they were handed in.

    :raises CorruptDataError: they are sealed, and were altered
    :raises BackendError: they are sealed, and the middleware or its key is missing
    """
    if SEALED_HEADER not in record.headers:
        return record
    own = own_headers(record.headers)
    name, _, sealed = own.pop(SEALED_HEADER).partition(":")
    users = stages.decoder(name, _headers_of(record.id)).open_headers(record.id, sealed)
    return replace(record, headers={**user_headers(users), **own})


def _headers_of(message_id: str) -> str:
    return f"what stands for the headers of message {message_id!r}"
