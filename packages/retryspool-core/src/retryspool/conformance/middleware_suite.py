"""What the tests of middleware are made with."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import BinaryIO, NamedTuple

import pytest

from retryspool.conformance.common import AnySuite, weakened
from retryspool.conformance.marks import clause
from retryspool.errors import StorageError
from retryspool.middleware import Middleware

__all__ = ["MESSAGE", "MiddlewareSuite", "OldFormat", "Parts", "decoded", "encoded", "hook_of", "outcome", "pickled"]

MESSAGE = "019a-message"
"""The message that tests encode for."""

_READ_BYTES = 10_000


class OldFormat(NamedTuple):
    """A payload as a version wrote it that was released."""

    message_id: str
    stored: bytes
    payload: bytes


class MiddlewareSuite(AnySuite):
    """The base of each part of `retryspool.conformance.MiddlewareSuite`.

    `middleware` is all that must be written. The other hooks unlock more tests each; without one, its tests are
    skipped, and the report says so.
    """

    def middleware(self) -> Middleware:
        """Return the middleware, a new object each time, always with the same settings."""
        raise NotImplementedError

    def url(self) -> str:
        """Return a URL that `from_url` of the class takes, with some settings if there are any."""
        raise NotImplementedError

    def secrets(self) -> Sequence[str]:
        """Return what must never be shown of the settings: keys, in every form in which they are written."""
        raise NotImplementedError

    def old_formats(self) -> Mapping[str, OldFormat]:
        """Return, by name, payloads as every version wrote them that was released."""
        raise NotImplementedError

    # -- fixtures ------------------------------------------------------------------------------------------------------

    @pytest.fixture
    def stage(self) -> Middleware:
        """The middleware of this test."""
        return self.middleware()

    # -- the suite itself ----------------------------------------------------------------------------------------------

    @clause("MIDDLEWARE-1")
    def test_no_test_is_overridden_without_a_reason(self) -> None:
        assert [] == weakened(type(self)), (
            "an overridden test needs @deviation(reason=…, issue=…), and is reported with it"
        )


Parts = Sequence[bytes]
"""A payload in the pieces in which it is written."""


def hook_of(suite: MiddlewareSuite, name: str) -> None:
    """Skip the test if its suite doesn't have this hook."""
    if getattr(type(suite), name) is getattr(MiddlewareSuite, name):
        pytest.skip(f"hook {name} isn't given")


def encoded(stage: Middleware, parts: Parts, message_id: str = MESSAGE) -> bytes:
    """Return what is stored of a payload."""
    sink = io.BytesIO()
    writer = stage.encode(message_id, sink)
    for part in parts:
        writer.write(part)
    writer.close()
    return sink.getvalue()


def decoded(stage: Middleware, stored: bytes | BinaryIO, message_id: str = MESSAGE) -> bytes:
    """Return the payload of what is stored, read to its end."""
    source = io.BytesIO(stored) if isinstance(stored, bytes) else stored
    parts: list[bytes] = []
    with stage.decode(message_id, source) as reader:
        while part := reader.read(_READ_BYTES):
            parts.append(part)
        assert b"" == reader.read(1), "it goes on after its end"
    return b"".join(parts)


def outcome(stage: Middleware, stored: bytes, message_id: str = MESSAGE) -> bytes | Exception:
    """Return the payload, or the error with which a middleware may refuse what is stored."""
    try:
        return decoded(stage, stored, message_id)
    except (StorageError, OSError) as error:
        return error


def pickled(stage: Middleware) -> Middleware:
    """Return it if it can be handed to a child of the suite; else skip the test."""
    try:
        pickle.dumps(stage)
    except Exception as error:  # noqa: BLE001 -- objects refuse in many ways
        pytest.skip(f"it can't be pickled for a child of the suite: {error}")
    return stage
