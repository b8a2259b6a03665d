"""Namespaces: what keeps several stores apart at one place, be it a folder, a server or a bucket."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.urls import redact

__all__ = ["MAX_NAMESPACE_LENGTH", "NAMESPACE_SETTING", "split_namespace", "split_setting", "validate_namespace"]

MAX_NAMESPACE_LENGTH = 32
NAMESPACE_SETTING = "namespace"
"""What the URL of any backend may have among its settings."""
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


def split_namespace(url: str) -> tuple[str, str | None]:
    """Take the setting `namespace` out of a backend's URL.

    :returns: the URL without it, otherwise as it was, and the namespace, if there is one
    :raises InvalidUrlError: there are two, or it isn't one
    """
    rest, found = split_setting(url, NAMESPACE_SETTING)
    if found is None:
        return url, None
    try:
        return rest, validate_namespace(found)
    except InvalidOptionError as error:
        msg = f"{redact(url)!r}: {error}"
        raise InvalidUrlError(msg) from None


def split_setting(url: str, setting: str) -> tuple[str, str | None]:
    """Take a setting out of a backend's URL that isn't the backend's own.

    :returns: the URL without it, otherwise as it was, and the setting, if there is one
    :raises InvalidUrlError: there are two
    """
    before, mark, query = url.partition("?")
    settings = [(part, *part.partition("=")[::2]) for part in query.split("&")]
    found = [unquote_plus(value) for _, name, value in settings if name == setting]
    if not found:
        return url, None
    if len(found) > 1:
        msg = f"{redact(url)!r}: the setting {setting!r} is given twice"
        raise InvalidUrlError(msg)
    rest = "&".join(part for part, name, _ in settings if name != setting)
    return f"{before}{mark}{rest}" if rest else before, found[0]
