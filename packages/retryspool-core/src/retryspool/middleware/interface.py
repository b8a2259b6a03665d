"""The interface of middleware."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Self

from retryspool.errors import InvalidUrlError, NotSupportedError
from retryspool.urls import BackendUrl, parse_url, redact

__all__ = ["Middleware", "MiddlewareCapabilities", "settings_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MiddlewareCapabilities:
    """What a middleware promises beyond the contract's core."""

    integrity: bool = False
    """`decode` itself finds out what was altered, cut off or added; else the record's size and checksum do."""
    binds_ids: bool = False
    """`decode` refuses what was encoded for another message."""
    conceals: bool = False
    """What is stored shows nothing of the payload but its size: so the record keeps no checksum of it either."""


class Middleware(ABC):
    """A reversible transformation of payloads, streamed. Instances may be shared between threads.

    Several are stacked in a declared order: the first gets the user's bytes. The names that a payload went through are
    stored with its record, so that it is read back through the same ones whatever is configured by then.
    """

    name: ClassVar[str]
    """What payloads are marked with: lower-case letters, digits and dashes, never reused for another format."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Further names whose payloads `decode` takes, where a spool has nothing else for them."""
    capabilities: ClassVar[MiddlewareCapabilities] = MiddlewareCapabilities()

    @abstractmethod
    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        """Return a writable file whose bytes arrive, transformed, in `sink`.

        Its `close()` writes what is still held back, and leaves `sink` open: what fails there is raised, and the
        payload is not stored. If it has an `abort()`, that is called in place of `close()` where the payload is thrown
        away. Memory doesn't grow with the payload.
        """

    @abstractmethod
    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        """Return a readable file of the bytes that `encode` was given, read from `source`, which its `close()` closes.

        It is seekable only if a seek to its start reads the same again.

        :raises CorruptDataError: here or from its `read`: the bytes are damaged or cut off; never a short payload as if
            it were whole. An `OSError` says the same where it may be the source's fault, so that it's tried again
        :raises BackendError: here: a key or a setting is missing
        """

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from a URL, `name:?setting=value`; by default there are none.

        :raises InvalidUrlError: it doesn't parse, or has a setting that there isn't
        """
        settings_of(url, {})
        return cls()

    @classmethod
    def for_reading(cls) -> Middleware:
        """Return one that decodes whatever was encoded under this name, with any settings.

        A spool that wasn't opened with this middleware reads by it.

        :raises NotSupportedError: that takes a secret or a setting; the text says how to open the spool
        """
        raise NotSupportedError("open the spool with that middleware")

    @property
    def decode_only(self) -> bool:
        """Whether a spool reads by it what is there, and writes nothing new through it."""
        return False

    # -- headers -------------------------------------------------------------------------------------------------------

    @property
    def seals_headers(self) -> bool:
        """Whether users' headers are stored sealed too; at most one middleware of a spool does so."""
        return False

    def seal_headers(self, message_id: str, headers: Mapping[str, str]) -> str:  # noqa: ARG002 -- for overriders
        """Return the headers as one text that shows nothing of them."""
        raise NotSupportedError(f"middleware {self.name!r} seals no headers")

    def open_headers(self, message_id: str, sealed: str) -> Mapping[str, str]:  # noqa: ARG002 -- for overriders
        """Return the headers that `seal_headers` was given.

        :raises CorruptDataError: it isn't what was sealed for this message: that's certain
        :raises BackendError: a key is missing, or it may be
        """
        raise NotSupportedError(f"middleware {self.name!r} seals no headers")


def settings_of(url: str, settings: Mapping[str, Callable[[str], object]]) -> Mapping[str, object]:
    """Return the settings of a middleware's URL, `name:?setting=value`, converted; see `parse_url`.

    :raises InvalidUrlError: it doesn't parse, has a setting that isn't among them, or has more than settings
    """
    parsed = parse_url(url, settings)
    if parsed != BackendUrl("", None, "", "", "", parsed.settings):
        name = url.partition(":")[0]
        raise InvalidUrlError(f"{redact(url)!r} has more than settings: it is {name}:?setting=value&…")
    return parsed.settings
