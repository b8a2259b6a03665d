"""What the suites of backends and of middleware have in common."""

from __future__ import annotations

import random

import pytest

from retryspool.conformance.marks import DEVIATION_MARK, clauses_of
from retryspool.conformance.profiles import PROFILES, Profile

__all__ = ["AnySuite", "weakened"]


class AnySuite:
    """The base of every suite: how much its tests do, and what makes their randomness."""

    @pytest.fixture
    def profile(self, request: pytest.FixtureRequest) -> Profile:
        """How much to do."""
        return PROFILES[request.config.option.retryspool_profile]

    @pytest.fixture
    def seed(self, request: pytest.FixtureRequest) -> int:
        """What makes this test's randomness: with the same --retryspool-seed, the same again."""
        session: int = request.config.option.retryspool_seed
        return random.Random(f"{session} {request.node.name}").getrandbits(32)


def weakened(own: type[AnySuite]) -> list[str]:
    """Return the tests that a class overrides of the suite that it's made from, without saying in what it deviates."""
    suite = next(base for base in own.__mro__ if base.__module__.startswith("retryspool.conformance."))
    return [
        name
        for name in dir(suite)
        if clauses_of(getattr(suite, name)) is not None
        and getattr(own, name) is not getattr(suite, name)
        and not _deviates(getattr(own, name))
    ]


def _deviates(function: object) -> bool:
    return any(mark.name == DEVIATION_MARK for mark in getattr(function, "pytestmark", ()))
