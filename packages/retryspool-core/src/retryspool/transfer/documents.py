"""A message's record as a JSON document, as an export keeps it beside the payload."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from retryspool.errors import InvalidMetadataError
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State
from retryspool.queue.bulk import at_rest
from retryspool.records import validate_metadata
from retryspool.spool import ENCODING_HEADER, SEALED_HEADER

__all__ = ["MAX_DOCUMENT_BYTES", "from_document", "to_document"]

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""What is longer is no record."""

_TEXTS = {"route": "route", "retry_policy": "retry_policy_name", "last_error": "last_error", "checksum": "checksum"}
_NUMBERS = ("attempts", "max_attempts", "deliveries", "size", "priority")
_TIMES = ("next_retry", "created")
_NOT_KEPT = (ENCODING_HEADER, SEALED_HEADER)
"""Headers that tell how a payload is stored in one spool; in an export it is as it was handed in."""


def to_document(record: MessageMetadata) -> str:
    """Return the document of a record, in one line of ASCII; a message that a worker has is written as if it hadn't."""
    resting = at_rest(record, NEVER) or record
    document: dict[str, object] = {"id": resting.id, "state": resting.state.label}
    document |= {name: getattr(resting, name) for name in _NUMBERS}
    document |= {name: _time(getattr(resting, name)) for name in _TIMES}
    document |= {name: getattr(resting, field) for name, field in _TEXTS.items()}
    document["headers"] = {name: value for name, value in resting.headers.items() if name not in _NOT_KEPT}
    return json.dumps(document)


def _time(time: datetime) -> str | None:
    return None if time == ZERO_TIME else time.astimezone(UTC).isoformat()


def from_document(text: str | bytes) -> MessageMetadata:
    """Return the record of a document.

    :raises InvalidMetadataError: it isn't one, or has a value that a record can't have
    """
    try:
        document: dict[str, Any] = dict(json.loads(text))
        headers: Mapping[str, str] = document.get("headers", {})
        fields = {name: document[name] for name in _NUMBERS if name in document}
        fields |= {name: datetime.fromisoformat(document[name]) for name in _TIMES if document.get(name) is not None}
        fields |= {field: document[name] for name, field in _TEXTS.items() if name in document}
        fields["headers"] = {name: value for name, value in headers.items() if name not in _NOT_KEPT}
        record = MessageMetadata(document["id"], state=State.from_label(document["state"]), **fields)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        msg = f"not the document of a message: {type(error).__name__}: {error}"
        raise InvalidMetadataError(msg) from error
    if record.state is State.ACTIVE:
        msg = f"message {record.id!r}: a document's message is 'active', which only a worker makes it"
        raise InvalidMetadataError(msg)
    return validate_metadata(record)
