"""Names, settings, and secrets."""

from __future__ import annotations

import io
import logging
import pickle
import re
import traceback
from collections.abc import Iterator

import pytest

from retryspool.conformance.marks import clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite, decoded, encoded, hook_of
from retryspool.errors import InvalidUrlError, RetrySpoolError
from retryspool.middleware import Middleware

__all__ = ["SettingTests"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class SettingTests(MiddlewareSuite):
    @clause("MIDDLEWARE-15")
    def test_names_are_names(self, stage: Middleware) -> None:
        for name in (stage.name, *stage.reads):
            assert _NAME.fullmatch(name), name
        assert stage.name not in stage.reads

    @clause("MIDDLEWARE-13")
    def test_a_url_makes_a_middleware(self, stage: Middleware) -> None:
        hook_of(self, "url")
        url = self.url()
        made = type(stage).from_url(url)

        assert url.startswith(f"{stage.name}:")
        assert b"hello" == decoded(made, encoded(made, [b"hello"]))
        assert b"hello" == decoded(type(stage).from_url(url), encoded(made, [b"hello"]))

    @clause("MIDDLEWARE-13")
    def test_what_is_no_setting_is_refused(self, stage: Middleware) -> None:
        hook_of(self, "url")
        url = self.url()
        before, _, query = url.partition("?")
        more = f"{url}&" if query else f"{before}?"
        wrong = [f"{more}no_such_setting=1", f"{more}no_such_setting=", f"{more}=1", f"{url}#x"]
        wrong += [f"{more}{part}" for part in query.split("&") if part]  # given twice
        wrong += [f"{stage.name}:path", f"{stage.name}://host", f"{stage.name}://me:hunter2@host/x"]

        for each in wrong:
            with pytest.raises(InvalidUrlError) as refused:
                type(stage).from_url(each)
            assert "hunter2" not in str(refused.value)

    @clause("MIDDLEWARE-14")
    def test_no_secret_is_shown(self, stage: Middleware, caplog: pytest.LogCaptureFixture) -> None:
        hook_of(self, "secrets")
        secrets = self.secrets()
        caplog.set_level(logging.DEBUG)
        shown = [repr(stage), str(stage), *_pickles(stage), *self._errors(stage)]
        shown += [record.getMessage() for record in caplog.records]

        assert secrets
        assert all(len(secret) >= 8 for secret in secrets), "what is that short is found anywhere"
        assert [] == [text for text in shown for secret in secrets if secret in text]

    def _errors(self, stage: Middleware) -> Iterator[str]:
        """Yield what is told of what goes wrong."""
        stored = encoded(stage, [b"hello"])
        for at in range(len(stored)):
            altered = bytearray(stored)
            altered[at] ^= 0xFF
            try:
                stage.decode("another", io.BytesIO(bytes(altered))).read()
            except (RetrySpoolError, OSError) as error:
                yield "".join(traceback.format_exception(error))
        if type(self).url is not MiddlewareSuite.url:
            try:
                type(stage).from_url(f"{self.url()}&no_such_setting=1")
            except InvalidUrlError as error:
                yield "".join(traceback.format_exception(error))

    @clause("MIDDLEWARE-14")
    def test_what_crosses_to_another_process_works_there(self, stage: Middleware) -> None:
        for text in _pickles(stage):
            copy: Middleware = pickle.loads(text.encode("latin-1"))  # noqa: S301 -- what was pickled just now
            assert b"hello" == decoded(copy, encoded(stage, [b"hello"], MESSAGE))


def _pickles(stage: Middleware) -> Iterator[str]:
    try:
        yield pickle.dumps(stage).decode("latin-1")
    except Exception:  # noqa: BLE001 -- it needn't be picklable, and may refuse in any way
        return
