"""Payloads that are read twice."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO

__all__ = ["seekable"]

_IN_MEMORY_BYTES = 1024 * 1024


@contextmanager
def seekable(payload: BinaryIO) -> Generator[BinaryIO]:
    """Yield the payload if it's seekable, else a copy that is, on disk where it's large."""
    if payload.seekable():
        yield payload
        return
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as copy:
        shutil.copyfileobj(payload, copy)
        copy.seek(0)
        yield copy  # type: ignore[misc]  # it has all of BinaryIO
