"""Where a payload lies: under the key `<prefix>/<id>.data`, `<id>.data` without a prefix. It's the Go system's.

Injective, since the id is in the key as it is, and keys tell `A` from `a`.
"""

from __future__ import annotations

import re

from retryspool.errors import InvalidMessageIdError, InvalidOptionError
from retryspool.ids import validate_message_id

__all__ = ["key_of", "message_id_of", "validate_bucket", "validate_prefix"]

_SUFFIX = ".data"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
_MOST_PREFIX_BYTES = 700
"""A key has 1024 bytes at most; the longest id, its suffix and some namespaces must fit in behind the prefix."""


def key_of(prefix: str, message_id: str) -> str:
    """Return the key of a payload."""
    return f"{prefix}/{message_id}{_SUFFIX}" if prefix else message_id + _SUFFIX


def message_id_of(prefix: str, key: str) -> str | None:
    """Return whose payload is under a key, None if by its name there's none."""
    name = key.removeprefix(f"{prefix}/") if prefix else key
    message_id = name.removesuffix(_SUFFIX)
    if message_id == name or (prefix and name == key):
        return None
    try:
        return validate_message_id(message_id)
    except InvalidMessageIdError:
        return None


def validate_bucket(bucket: str) -> str:
    """Return `bucket` if a bucket may be called so.

    :raises InvalidOptionError: none may
    """
    if _BUCKET.fullmatch(bucket) is None or ".." in bucket or _ADDRESS.fullmatch(bucket) is not None:
        raise InvalidOptionError(
            f"bucket is {bucket[:80]!r}; it must be 3 to 63 characters of a-z 0-9 . -, with a letter or a digit "
            "at both ends, and no IP address"
        )
    return bucket


def validate_prefix(prefix: str) -> str:
    """Return `prefix`, without slashes around it, if keys may begin so.

    Refused is what stores or proxies on the way may take for another key: `//`, `.` and `..` between slashes.

    :raises InvalidOptionError: none may
    """
    stripped = prefix.strip("/")
    if not stripped:
        return ""
    parts = stripped.split("/")
    long = len(stripped.encode(errors="replace")) > _MOST_PREFIX_BYTES
    if long or not stripped.isprintable() or "\\" in stripped or any(part in {"", ".", ".."} for part in parts):
        raise InvalidOptionError(
            f"prefix is {prefix[:80]!r}; it must be printable, at most {_MOST_PREFIX_BYTES} bytes long, without "
            "backslashes, and none of its parts between slashes empty, '.' or '..'"
        )
    return stripped
