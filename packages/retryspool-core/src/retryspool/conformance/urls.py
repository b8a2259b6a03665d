"""Factories of both kinds: their URLs, their secrets, and where nobody listens."""

from __future__ import annotations

import dataclasses
import logging
import re
import secrets
import socket
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import pytest

from retryspool import deadline
from retryspool.conformance.attempts import allowed_s
from retryspool.conformance.factories import contents, put
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.stores import Backend, Factory, Stores
from retryspool.conformance.suite import Address, Suite, needs
from retryspool.data import DataBackend, DataFactory
from retryspool.errors import BackendUnavailableError, InvalidUrlError, RetrySpoolError
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.urls import scheme_of

__all__ = ["UrlTests"]

_LIMIT_S = 3.0
_NUMBER = re.compile(r"\b(int|float|bool)\b")
_SECRET = re.compile("passw|secret|token", re.IGNORECASE)


class UrlTests(Suite[Factory, Backend]):
    @clause("FACTORY-4")
    def test_a_url_makes_a_factory(self, stores: Stores[Factory, Backend]) -> None:
        needs(self, "url")
        kind: type[MetaFactory | DataFactory] = type(stores.new())
        url = self.url()

        assert kind.from_url(url) == kind.from_url(url)
        assert scheme_of(url) in (kind.name, *kind.schemes)

    @clause("FACTORY-4")
    def test_a_setting_that_there_is_not_is_refused(self, stores: Stores[Factory, Backend]) -> None:
        needs(self, "url")
        kind = type(stores.new())
        url = self.url()

        for wrong in ("no_such_setting=1", "no_such_setting=", "no_such_setting", "=1"):
            with pytest.raises(InvalidUrlError):
                kind.from_url(_with(url, wrong))

    @clause("FACTORY-4")
    def test_a_setting_given_twice_is_refused(self, stores: Stores[Factory, Backend]) -> None:
        needs(self, "url")
        factory = stores.new()
        kind = type(factory)
        url = self.url()

        for name, value in parse_qsl(urlsplit(url).query, keep_blank_values=True):
            with pytest.raises(InvalidUrlError):
                kind.from_url(_with(url, urlencode([(name, value)], quote_via=quote)))
        for field in _fields(factory):  # whether it's a setting of its URLs or not, twice is once too often
            for value in ("1", "x"):
                with pytest.raises(InvalidUrlError):
                    kind.from_url(_with(url, f"{field}={value}&{field}={value}"))

    @clause("FACTORY-4")
    def test_a_setting_of_a_wrong_value_is_refused(self, stores: Stores[Factory, Backend]) -> None:
        """By the types of the factory's fields; one that isn't a setting of its URLs is refused for that."""
        needs(self, "url")
        factory = stores.new()
        kind = type(factory)
        assert dataclasses.is_dataclass(factory)

        for field in dataclasses.fields(factory):
            if _NUMBER.search(str(field.type)):
                url = _without(self.url(), field.name)
                for wrong in ("neither", "", "1e", "0x", "--1"):
                    with pytest.raises(InvalidUrlError):
                        kind.from_url(_with(url, f"{field.name}={wrong}"))

    @clause("FACTORY-4")
    def test_what_is_no_url_is_refused(self, stores: Stores[Factory, Backend]) -> None:
        needs(self, "url")
        kind = type(stores.new())
        scheme = scheme_of(self.url())

        for wrong in ("", "no url", "://", f"{scheme}://host:port-that-is-none/x", f"{scheme}://[::1/x", f"{scheme}"):
            with pytest.raises(InvalidUrlError):
                kind.from_url(wrong)

    @clause("FACTORY-5")
    def test_no_password_is_shown(self, stores: Stores[Factory, Backend], caplog: pytest.LogCaptureFixture) -> None:
        needs(self, "url")
        factory = stores.new()
        password = secrets.token_hex(8)
        with caplog.at_level(logging.INFO), _closed_port() as port:
            shown = {
                url.replace(password, "PASSWORD"): self._told(stores, factory, url)
                for url in _urls_with(password, self.url(), factory, port)
            }

        assert [] == [url for url, text in shown.items() if password in text], "a password is shown"
        assert password not in caplog.text

    def _told(self, stores: Stores[Factory, Backend], like: Factory, url: str) -> str:
        """Open a store by a URL, and return all that is told by it, as one text."""
        told: list[str] = []
        try:
            factory = type(like).from_url(url)
            told += [repr(factory), str(factory), f"{factory}"]
            factory = factory.in_namespace(stores.namespace_of(like))
            told += [repr(factory)]
            with deadline(_LIMIT_S):
                backend = stores.open(factory)
                told += [repr(backend), str(backend), repr(contents(backend)), repr(list(backend.check()))]
                told += [repr(dict(backend.versions()))]
        except RetrySpoolError as error:
            told += [repr(error), str(error), repr(error.args), "".join(traceback.format_exception(error))]
        return "\n".join(told)

    @clause("FACTORY-9", level=Level.NETWORK)
    @pytest.mark.parametrize("first", ["read", "write"])
    def test_a_store_that_can_not_be_reached_is_refused_in_time(
        self, stores: Stores[Factory, Backend], first: str
    ) -> None:
        needs(self, "sever_network")
        calls: dict[str, Callable[[MetaBackend | DataBackend], object]] = {
            "read": contents,
            "write": lambda backend: put(backend, "a", "x"),
        }
        with _closed_port() as port:

            def nobody(_host: str, _port: int) -> Address:
                return "127.0.0.1", port

            factory = self.sever_network(stores.namespace_of(stores.new()), nobody)
            began = time.monotonic()
            with pytest.raises(BackendUnavailableError) as refused, deadline(_LIMIT_S):
                calls[first](stores.open(factory))
            took = time.monotonic() - began

        assert "none" == refused.value.outcome
        assert took <= allowed_s(_LIMIT_S)


def _with(url: str, setting: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{setting}"


def _without(url: str, setting: str) -> str:
    parts = urlsplit(url)
    rest = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != setting]
    return urlunsplit(parts._replace(query=urlencode(rest, quote_via=quote)))


def _fields(factory: object) -> list[str]:
    assert dataclasses.is_dataclass(factory)
    return [field.name for field in dataclasses.fields(factory)]


def _urls_with(password: str, url: str, factory: object, port: int) -> Iterator[str]:
    """Yield URLs that hold a password, such as open, are refused by the server, reach none, or aren't right."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] or "localhost"
    user = parts.username or "user"
    for hidden in (
        password,
        quote(f"{password}/+@:%", safe=""),
        f"{password}/no",
        f"{password}@{password}",
        f"{password}#",
    ):
        given = urlunsplit(parts._replace(netloc=f"{user}:{hidden}@{host}"))
        yield from (given, _with(given, "no_such_setting=1"))
    if parts.port:
        yield urlunsplit(parts._replace(netloc=f"{user}:{password}@127.0.0.1:{port}"))
        yield urlunsplit(parts._replace(netloc=f":{password}@127.0.0.1:{port}"))
    for field in _fields(factory):
        if _SECRET.search(field):
            yield _with(url, f"{field}={password}")
            yield _with(url, f"{field}={password}&{field}={password}")
    settings = parse_qsl(parts.query, keep_blank_values=True)
    for number, (name, value) in enumerate(settings):
        inner = urlsplit(value)
        if inner.scheme and inner.netloc:
            inside = urlunsplit(inner._replace(netloc=f"{user}:{password}@{inner.netloc.rpartition('@')[2]}"))
            changed = [*settings[:number], (name, inside), *settings[number + 1 :]]
            yield urlunsplit(parts._replace(query=urlencode(changed, quote_via=quote)))


@contextmanager
def _closed_port() -> Generator[int]:
    """Hold a port where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
