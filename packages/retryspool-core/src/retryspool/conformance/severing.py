"""Stores that are reached through proxies."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic

import pytest

from retryspool.conformance.faults import DELAY, PASS, Fault
from retryspool.conformance.proxy import Proxy
from retryspool.conformance.racing import race
from retryspool.conformance.stores import Backend, Factory, Stores
from retryspool.conformance.suite import Address, Suite, needs
from retryspool.errors import StorageError

__all__ = ["Link", "Network", "Sever", "Severing", "most_at_once", "plans"]

_ONCE_S = 2.0
_ALWAYS_S = 0.4


class Network:
    """The proxies before a store's servers, one before each; all fail alike."""

    def __init__(self) -> None:
        self._proxies: dict[Address, Proxy] = {}

    def through(self, host: str, port: int) -> Address:
        """Put a proxy before an address; return where that is."""
        if (host, port) not in self._proxies:
            self._proxies[host, port] = Proxy(host, port)
        return self._proxies[host, port].address

    def inflict(self, fault: Fault) -> None:
        """Let a fault be in force, and no other."""
        for proxy in self._proxies.values():
            proxy.inflict(fault)

    def heal(self) -> None:
        """Let everything pass."""
        self.inflict(PASS)

    @contextmanager
    def failing(self, fault: Fault) -> Generator[None]:
        """Let a fault be in force within the block."""
        self.inflict(fault)
        try:
            yield
        finally:
            self.heal()

    def cut(self) -> None:
        """End all connections."""
        for proxy in self._proxies.values():
            proxy.cut()

    @property
    def hits(self) -> int:
        """How often the fault in force has struck."""
        return sum(proxy.hits for proxy in self._proxies.values())

    def most_busy(self) -> int:
        """Return how many connections waited for a reply at once, at the most, since this was called last."""
        return sum(proxy.most_busy() for proxy in self._proxies.values())

    def close(self) -> None:
        """End all."""
        for proxy in self._proxies.values():
            proxy.close()


@dataclass(frozen=True, slots=True)
class Link(Generic[Factory, Backend]):
    """A store that is reached through a network which can fail."""

    factory: Factory
    """Its factory, which goes through the network too."""
    network: Network
    backend: Backend
    """The store, open."""


Sever = Callable[[Factory], Link[Factory, Backend]]
"""Opens the store of a factory through a network of its own."""


class Severing(Suite[Factory, Backend]):
    """The base of the suites' tests of networks."""

    @pytest.fixture
    def sever(self, stores: Stores[Factory, Backend]) -> Iterator[Sever[Factory, Backend]]:
        """Open a store through a network of its own."""
        needs(self, "sever_network")
        links: list[Link[Factory, Backend]] = []

        def new(factory: Factory) -> Link[Factory, Backend]:
            network = Network()
            try:
                severed = self.sever_network(stores.namespace_of(factory), network.through)
                link = Link(severed, network, stores.open(severed))
            except BaseException:
                network.close()
                raise
            links.append(link)
            return link

        yield new
        for link in links:
            link.network.heal()
            with suppress(Exception):  # what it may raise, and that it returns, is tested
                link.backend.close()
            link.network.close()


def most_at_once(network: Network, callers: int, call: Callable[[int], object]) -> int:
    """Return how many of so many threads are served at once, each over a connection of its own."""
    with network.failing(DELAY):
        network.most_busy()
        results = race(callers, call)
        most = network.most_busy()
    for result in results:
        if isinstance(result, StorageError):
            raise result
    return most


def plans(faults: Iterable[Fault], rounds: int, *, points: int = 3) -> Iterator[tuple[Fault, float]]:
    """Yield faults as they strike each of the first requests or replies, once and from then on; with a deadline."""
    for fault in [fault for _ in range(rounds) for fault in faults]:
        for spared in range(points):
            yield fault.once_after(spared), _ONCE_S
        for spared in range(points - 1):
            yield fault.from_then_on(spared), _ALWAYS_S
