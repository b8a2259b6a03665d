"""Backends' URLs: taken apart, checked, and shown without their passwords."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from retryspool.errors import InvalidUrlError

__all__ = ["BackendUrl", "parse_url", "redact", "scheme_of"]

_CREDENTIALS = re.compile(r"\A([^:/]*://[^:@/?#\[]*):.*@", re.DOTALL)
_SECRET_SETTING = re.compile(r"(\b[\w-]*(?:passw|secret|token|key|signature)[\w-]*=)[^&#\s]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BackendUrl:
    """A URL in its parts. `settings` are those of its query, converted."""

    host: str
    port: int | None
    user: str
    password: str
    path: str
    settings: Mapping[str, object]

    def __repr__(self) -> str:
        """Without the user, the password, and the settings' values, among which there may be another."""
        names = sorted(self.settings)
        return f"BackendUrl(host={self.host!r}, port={self.port!r}, path={self.path!r}, settings={names})"


def scheme_of(url: str) -> str:
    """Return the scheme of a URL, in lower case.

    :raises InvalidUrlError: it has none
    """
    scheme, colon, _ = url.partition(":")
    if not colon or not scheme or not (scheme[0].isalpha() and scheme.replace("+", "").replace("-", "").isalnum()):
        msg = f"{redact(url)!r} is not a backend's URL, such as fs:///var/spool/messages or redis://localhost/0"
        raise InvalidUrlError(msg)
    return scheme.lower()


def parse_url(url: str, settings: Mapping[str, Callable[[str], object]]) -> BackendUrl:
    """Take a URL apart.

    :param settings: the settings that its query may have, each with the function that converts the text; a `ValueError`
        of that becomes the text of the error
    :raises InvalidUrlError: it doesn't parse, has a setting that isn't among them, one twice, or one of a wrong value
    """
    scheme_of(url)
    shown = redact(url)
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:  # its text may hold what follows a colon: a part of a password
        msg = f"{shown!r} doesn't parse: it is scheme://user:password@host:port/path?setting=value, each part escaped"
        raise InvalidUrlError(msg) from None
    if "#" in url:
        msg = f"{shown!r} has a #, after which nothing would be read; one that is meant is written %23"
        raise InvalidUrlError(msg)
    converted: dict[str, object] = {}
    for key, text in query:
        if key not in settings:
            msg = f"{shown!r}: there is no setting {key!r}; there are: {', '.join(sorted(settings)) or 'none'}"
            raise InvalidUrlError(msg)
        if key in converted:
            msg = f"{shown!r}: the setting {key!r} is given twice"
            raise InvalidUrlError(msg)
        try:
            converted[key] = settings[key](text)
        except ValueError as error:
            msg = f"{shown!r}: the setting {key!r} isn't right: {error}"
            raise InvalidUrlError(msg) from None
    return BackendUrl(
        host=parts.hostname or "",
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        path=unquote(parts.path),
        settings=converted,
    )


def redact(url: str) -> str:
    """Return the URL as it may be shown: without a password, be it before the host or among the settings.

    By its text, since it is shown when it doesn't parse too: a password with a slash in it makes it so.
    """
    return _SECRET_SETTING.sub(r"\1***", _CREDENTIALS.sub(r"\1:***@", url))
