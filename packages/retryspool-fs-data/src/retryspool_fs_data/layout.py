"""Where a payload lies: `<first two characters of its id>/<id>.data`, `misc/` for an id of one. It's the Go system's.

Injective, since an id is in the file's name as it is: `A` and `a` are different messages, and so are `a.data` and `a`.
"""

from __future__ import annotations

from retryspool.errors import InvalidMessageIdError
from retryspool.ids import validate_message_id

__all__ = ["LOCKS_FOLDER", "TEMPORARY_FOLDER", "file_name_of", "is_shard", "message_id_of", "shard_of"]

LOCKS_FOLDER = ".locks"
TEMPORARY_FOLDER = ".tmp"

_SHORT_IDS = "misc"
_SUFFIX = ".data"
_SHARD_LENGTH = 2


def shard_of(message_id: str) -> str:
    """Return the name of the directory that holds a payload."""
    return message_id[:_SHARD_LENGTH] if len(message_id) >= _SHARD_LENGTH else _SHORT_IDS


def file_name_of(message_id: str) -> str:
    """Return the name of a payload's file, without its directory."""
    return message_id + _SUFFIX


def is_shard(name: str) -> bool:
    """Tell whether a directory of this name may hold payloads."""
    return name == _SHORT_IDS or (len(name) == _SHARD_LENGTH and _is_id(name))


def message_id_of(shard: str, file_name: str) -> str | None:
    """Return whose payload a file is, None if by its name or by its place it isn't one."""
    message_id = file_name.removesuffix(_SUFFIX)
    if message_id == file_name or not _is_id(message_id) or shard_of(message_id) != shard:
        return None
    return message_id


def _is_id(text: str) -> bool:
    try:
        validate_message_id(text)
    except InvalidMessageIdError:
        return False
    return True
