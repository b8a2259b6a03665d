"""Payloads that tell what they are, so that one that is torn, mixed or cut shows it."""

from __future__ import annotations

__all__ = ["content", "name_of"]


def content(name: str, size: int) -> bytes:
    """Return a payload of this size, which holds its name and its size over and over.

    :param size: at least 40
    """
    pattern = f"{name}:{size}|".encode()
    return (pattern * (size // len(pattern) + 1))[:size]


def name_of(payload: bytes) -> str:
    """Return the name of a payload; of one that isn't whole, what is wrong with it."""
    name, _, size = payload.partition(b"|")[0].decode(errors="replace").rpartition(":")
    if size.isdecimal() and content(name, int(size)) == payload:
        return name
    return f"{len(payload)} bytes that nobody stored: {payload[:30]!r} … {payload[-30:]!r}"
