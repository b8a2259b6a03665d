"""What is stored is read by every later version, and by whoever needs no secret for it."""

from __future__ import annotations

import random

import pytest

from retryspool.conformance.comparing import assert_same
from retryspool.conformance.marks import clause
from retryspool.conformance.middleware_suite import MiddlewareSuite, decoded, encoded, hook_of
from retryspool.errors import NotSupportedError
from retryspool.middleware import Middleware

__all__ = ["FormatTests"]


class FormatTests(MiddlewareSuite):
    @clause("MIDDLEWARE-16")
    def test_every_format_that_was_released_is_read(self, stage: Middleware) -> None:
        hook_of(self, "old_formats")
        formats = self.old_formats()

        assert formats
        for name, old in formats.items():
            assert_same(old.payload, decoded(stage, old.stored, old.message_id), f"the payload of format {name!r}")

    @clause("MIDDLEWARE-18")
    def test_it_is_read_without_settings_or_says_what_is_needed(self, stage: Middleware) -> None:
        payload = random.Random(8).randbytes(1000) + bytes(1000)
        try:
            reading = type(stage).for_reading()
        except NotSupportedError:
            with pytest.raises(NotSupportedError, match="open the spool with"):
                type(stage).for_reading()
            return
        assert stage.name in (reading.name, *reading.reads)
        assert_same(payload, decoded(reading, encoded(stage, [payload])))
