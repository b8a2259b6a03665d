"""Headers that are sealed."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite
from retryspool.conformance.profiles import Profile
from retryspool.conformance.strategies import texts
from retryspool.errors import BackendError, CorruptDataError, NotSupportedError
from retryspool.middleware import Middleware
from retryspool.model import MessageMetadata
from retryspool.records import validate_metadata

__all__ = ["HeaderTests"]

_HEADERS = {"recipient": "somebody@example.com", "grüße": "naïve ☂ \U0001f600", "nothing-at-all": ""}
_WORDS = ("recipient", "somebody", "example.com", "grüße", "naïve", "nothing-at-all")
"""What is in them: each so long, or so strange, that it's in no other text by accident."""


def _needs_sealing(stage: Middleware) -> None:
    if not stage.seals_headers:
        pytest.skip("it seals no headers")


class HeaderTests(MiddlewareSuite):
    @clause("MIDDLEWARE-17")
    def test_sealed_headers_come_back(self, stage: Middleware, profile: Profile, seed: int) -> None:
        _needs_sealing(stage)

        def check(headers: dict[str, str]) -> None:
            assert headers == dict(stage.open_headers(MESSAGE, stage.seal_headers(MESSAGE, headers)))

        explore(st.dictionaries(texts, texts, max_size=9), check, examples=profile.examples, seed=seed)

    @clause("MIDDLEWARE-17")
    def test_sealed_headers_show_nothing_and_can_be_stored(self, stage: Middleware) -> None:
        _needs_sealing(stage)
        one, other = (stage.seal_headers(MESSAGE, _HEADERS) for _ in range(2))

        assert one != other
        assert [] == [word for word in _WORDS if word in one]
        assert validate_metadata(MessageMetadata(MESSAGE, headers={"x": one})).headers == {"x": one}

    @clause("MIDDLEWARE-17")
    def test_sealed_headers_of_another_message_are_refused(self, stage: Middleware) -> None:
        _needs_sealing(stage)
        with pytest.raises(BackendError):
            stage.open_headers("another", stage.seal_headers(MESSAGE, _HEADERS))

    @clause("MIDDLEWARE-17")
    def test_sealed_headers_that_were_altered_are_refused(self, stage: Middleware) -> None:
        _needs_sealing(stage)
        sealed = stage.seal_headers(MESSAGE, _HEADERS)
        told: set[type[BackendError]] = set()
        for at, character in enumerate(sealed):
            altered = f"{sealed[:at]}{'A' if character != 'A' else 'B'}{sealed[at + 1 :]}"
            try:
                found = stage.open_headers(MESSAGE, altered)
            except BackendError as error:
                told.add(type(error))
                continue
            assert _HEADERS == dict(found), f"character {at}"
        for wrong in ("", "x", sealed[:-4], sealed[:20], f"{sealed}AAAA", "é", "=" * 40):
            with pytest.raises(BackendError):
                stage.open_headers(MESSAGE, wrong)
        assert CorruptDataError in told, "such damage is told as if a key were missing, so that nobody gives it up"

    @clause("MIDDLEWARE-17")
    def test_who_seals_no_headers_says_so(self, stage: Middleware) -> None:
        if type(stage).seal_headers is not Middleware.seal_headers:
            pytest.skip("it seals headers")
        assert not stage.seals_headers
        with pytest.raises(NotSupportedError):
            stage.seal_headers(MESSAGE, _HEADERS)
        with pytest.raises(NotSupportedError):
            stage.open_headers(MESSAGE, "x")
