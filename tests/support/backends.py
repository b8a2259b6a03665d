"""Stores of their own for tests that share a server."""

from __future__ import annotations

from uuid import uuid4


def new_namespace() -> str:
    """Return a namespace that nobody has used."""
    return f"t{uuid4().hex[:24]}"
