"""One middleware, and many who use it at once."""

from __future__ import annotations

import io
import os
import random

import pytest

from retryspool.conformance.children import children
from retryspool.conformance.comparing import assert_same
from retryspool.conformance.forking import Forked, fork
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite, decoded, encoded, pickled
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.middleware import Middleware

__all__ = ["SharingTests"]

_TURNS = 20


class SharingTests(MiddlewareSuite):
    @clause("MIDDLEWARE-11", level=Level.CONCURRENT)
    def test_threads_share_an_instance(self, stage: Middleware, profile: Profile) -> None:
        results = race(profile.racers, lambda racer: _use(stage, f"racer-{racer}", _TURNS))

        assert [""] * profile.racers == results

    @clause("MIDDLEWARE-11")
    def test_streams_that_are_open_at_the_same_time_have_nothing_to_do_with_each_other(self, stage: Middleware) -> None:
        payloads = [_payload(f"stream-{number}", 300_000) for number in range(5)]
        sinks = [io.BytesIO() for _ in payloads]
        writers = [stage.encode(f"m-{number}", sink) for number, sink in enumerate(sinks)]
        for at in range(0, 300_000, 50_000):
            for payload, writer in zip(payloads, writers, strict=True):
                writer.write(payload[at : at + 50_000])
        for writer in writers:
            writer.close()
        readers = [stage.decode(f"m-{number}", io.BytesIO(sink.getvalue())) for number, sink in enumerate(sinks)]
        found = [b""] * len(readers)
        for _ in range(0, 300_000, 50_000):
            found = [before + reader.read(50_000) for before, reader in zip(found, readers, strict=True)]

        for payload, its in zip(payloads, found, strict=True):
            assert_same(payload, its)
        assert all(reader.read(1) == b"" for reader in readers)

    @clause("MIDDLEWARE-12", level=Level.CONCURRENT)
    def test_a_fork_may_use_it_on_both_sides(self, stage: Middleware) -> None:
        if not hasattr(os, "fork"):
            pytest.skip("this system has no fork")
        with children(1) as (child,):
            forked = child.call(_fork, pickled(stage))

        assert Forked("", "") == forked


def _fork(stage: Middleware) -> Forked:
    problem = _use(stage, MESSAGE, 3)
    assert not problem, problem
    return fork(lambda: _use(stage, "parent", _TURNS), lambda: _use(stage, "child", _TURNS))


def _use(stage: Middleware, name: str, times: int) -> str:
    """Encode and decode payloads of one's own; return what is wrong."""
    for number in range(times):
        payload = _payload(f"{name} {number}", number * 17_001)
        parts = [payload[: number * 100], payload[number * 100 :]]
        if payload != decoded(stage, encoded(stage, parts, name), name):
            return f"payload {number} of {name} isn't what went in"
    return ""


def _payload(name: str, size: int) -> bytes:
    chance = random.Random(name)
    return chance.randbytes(size // 2) + bytes([chance.randrange(256)]) * (size - size // 2)
