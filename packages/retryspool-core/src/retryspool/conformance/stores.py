"""The stores of a test: each in a namespace of its own, opened, closed and destroyed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from retryspool.data import DataBackend, DataFactory
from retryspool.meta import MetaBackend, MetaFactory

__all__ = ["Backend", "Factory", "Stores"]

Factory = TypeVar("Factory", MetaFactory, DataFactory)
Backend = TypeVar("Backend", MetaBackend, DataBackend)


class Stores(Generic[Factory, Backend]):
    """What a test opens, so that it's all closed and gone afterwards.

    :param make: makes the factory of a namespace
    """

    def __init__(self, make: Callable[[str], Factory]) -> None:
        self._make: Callable[[str], Factory] = make
        self._factories: list[Factory] = []
        self._opened: list[Backend] = []
        self.namespaces: dict[int, str] = {}

    def new(self) -> Factory:
        """Return the factory of a store that nobody has opened before."""
        return self.at(f"t{secrets.token_hex(6)}")

    def at(self, namespace: str) -> Factory:
        """Return the factory of the store of this namespace."""
        factory = self.own(self._make(namespace))
        self.namespaces[id(factory)] = namespace
        return factory

    def own(self, factory: Factory) -> Factory:
        """Destroy this one's store too when the test is over."""
        self._factories.append(factory)
        return factory

    def namespace_of(self, factory: Factory) -> str:
        """Return the namespace that `new` or `at` made this factory for."""
        return self.namespaces[id(factory)]

    def open(self, factory: Factory) -> Backend:
        """Open a store once more."""
        backend: Backend = factory.create()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        self._opened.append(backend)
        return backend

    def clean_up(self) -> list[str]:
        """Close and destroy everything; return what went wrong, which is nobody's failure."""
        troubles: list[str] = []
        for backend in self._opened:
            with suppress(Exception):  # a test may have broken it, or what it stands on
                backend.close()
        for factory in reversed(self._factories):  # what lies within another goes first
            try:
                factory.destroy()
            except Exception as error:  # noqa: BLE001 -- reported, whatever it is
                troubles.append(f"{factory!r} wasn't cleaned up: {error!r}")
        return troubles
