"""Namespaces: what keeps several stores apart at one place, be it a folder, a server or a bucket."""

from __future__ import annotations

import re

from retryspool.errors import InvalidOptionError

__all__ = ["MAX_NAMESPACE_LENGTH", "validate_namespace"]

MAX_NAMESPACE_LENGTH = 32
_VALID = re.compile(r"[a-z0-9][a-z0-9_]{0,31}")


def validate_namespace(namespace: str) -> str:
    """Return `namespace` if it is one that every backend can append to a path, a key or a table's name.

    :raises InvalidOptionError: it isn't 1 to 32 characters of `a-z 0-9 _`, the first a letter or digit
    """
    if _VALID.fullmatch(namespace) is None:
        msg = (
            f"namespace is {namespace[:60]!r}; it must be 1 to {MAX_NAMESPACE_LENGTH} characters of a-z 0-9 _, "
            "the first of them a letter or a digit"
        )
        raise InvalidOptionError(msg)
    return namespace
