"""Middleware: what happens to a payload's bytes between the user and the data backend (compression, encryption …)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import BinaryIO, ClassVar

__all__ = ["Middleware"]


class Middleware(ABC):
    """A reversible transformation of payloads, streamed.

    Several are stacked in a declared order: the first gets the user's bytes. The names that a payload went through are
    stored with its record, so that it is read back through the same ones whatever is configured by then.
    """

    name: ClassVar[str]
    """What payloads are marked with: lower-case letters, digits and dashes, never reused for another format."""

    @abstractmethod
    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        """Return a writable file whose bytes arrive, transformed, in `sink`.

        Its `close()` writes what is still held back, and leaves `sink` open: what fails there is raised, and the
        payload is not stored. Memory doesn't grow with the payload.
        """

    @abstractmethod
    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        """Return a readable file of the bytes that `encode` was given, read from `source`, which its `close()` closes.

        :raises OSError: from its `read`: the bytes are damaged or cut off; never a short payload as if it were whole
        """
