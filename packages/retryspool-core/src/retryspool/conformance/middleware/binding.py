"""Payloads that belong to their message, and show nothing of themselves."""

from __future__ import annotations

import io
import random

import pytest

from retryspool.conformance.marks import clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite, decoded, encoded
from retryspool.conformance.strategies import TRICKY_IDS
from retryspool.conformance.suite import needs_capability
from retryspool.errors import StorageError
from retryspool.middleware import Middleware

__all__ = ["BindingTests"]

_WINDOW = 8
"""So many bytes of a payload are in what is stored by no accident."""


class BindingTests(MiddlewareSuite):
    @clause("MIDDLEWARE-8")
    @pytest.mark.parametrize("size", [0, 1, 1000, 1_000_000])
    def test_the_payload_of_another_message_is_refused_before_its_first_byte(
        self, stage: Middleware, size: int
    ) -> None:
        needs_capability(stage.capabilities, "binds_ids")
        stored = encoded(stage, [random.Random(6).randbytes(size)])
        for other in (MESSAGE.upper(), f"{MESSAGE}.", MESSAGE[:-1], *TRICKY_IDS[:5]):
            with pytest.raises((StorageError, OSError)), stage.decode(other, io.BytesIO(stored)) as reader:
                reader.read(1)

    @clause("MIDDLEWARE-8")
    def test_parts_of_two_payloads_are_not_one(self, stage: Middleware) -> None:
        needs_capability(stage.capabilities, "binds_ids")
        one, other = (encoded(stage, [bytes([number]) * 2_000_000]) for number in (1, 2))
        for at in range(1000, min(len(one), len(other)), 100_003):
            with pytest.raises((StorageError, OSError)):
                decoded(stage, one[:at] + other[at:])

    @clause("MIDDLEWARE-9")
    def test_what_is_concealed_does_not_show(self, stage: Middleware) -> None:
        needs_capability(stage.capabilities, "conceals")
        payload = random.Random(7).randbytes(5_000)
        windows = {payload[at : at + _WINDOW] for at in range(len(payload))}
        stored = encoded(stage, [payload, payload])

        assert not windows & {stored[at : at + _WINDOW] for at in range(len(stored) - _WINDOW)}

    @clause("MIDDLEWARE-9")
    def test_the_same_payload_is_stored_differently_each_time(self, stage: Middleware) -> None:
        needs_capability(stage.capabilities, "conceals")
        streams = [encoded(stage, [b"yes"]) for _ in range(100)]

        assert 100 == len({stored[-16:] for stored in streams})
        assert 1 == len({len(stored) for stored in streams})
