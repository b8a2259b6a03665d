"""URLs whose server is reached by another way."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import pytest

from retryspool.conformance.suite import Through

__all__ = ["reroute"]


def reroute(url: str, through: Through) -> str:
    """Return the URL with the address of its server, or that in one of its settings, replaced by the proxy's."""
    parts = urlsplit(url)
    if parts.hostname and parts.port:
        host, port = through(parts.hostname, parts.port)
        credentials, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}:{port}"))
    settings = parse_qsl(parts.query, keep_blank_values=True)
    for number, (name, value) in enumerate(settings):
        inner = urlsplit(value)
        if inner.scheme and inner.hostname and inner.port:
            settings[number] = name, reroute(value, through)
            return urlunsplit(parts._replace(query=urlencode(settings, quote_via=quote)))
    pytest.skip("the URL names no host and port to put the proxy before")
