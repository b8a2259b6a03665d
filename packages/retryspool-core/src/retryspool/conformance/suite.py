"""What the suites of both kinds of backend have in common: hooks, stores, and how they are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, NoReturn, Protocol

import pytest

from retryspool.conformance.about import about
from retryspool.conformance.common import AnySuite, weakened
from retryspool.conformance.marks import clause
from retryspool.conformance.stores import Backend, Factory, Stores

__all__ = ["Address", "Suite", "Through", "Transaction", "needs", "needs_capability", "needs_no_capability", "not_run"]

Address = tuple[str, int]
"""Host and port."""

Through = Callable[[str, int], Address]
"""Puts the suite's proxy before an address, and returns where the backend is to connect instead."""


class Transaction(Protocol):
    """A connection of a driver's, on which a transaction is open: the caller's, whom a backend may join."""

    def commit(self) -> object:
        """Let all that was done in it take effect."""
        ...

    def rollback(self) -> object:
        """Undo all that was done in it; nothing after a commit."""
        ...


_verdicts: dict[type, str] = {}
"""What is wrong with the fixture of a suite, found out once in a process; empty if it is as it should be."""


class Suite(AnySuite, Generic[Factory, Backend]):
    """The base of `MetaBackendSuite` and `DataBackendSuite`. A subclass whose name begins with `Test` is run by pytest.

    `factory` is all that must be written. The other hooks unlock more tests each; without one, its tests are skipped,
    and the report says so.
    """

    retryspool_contract: ClassVar[str | None] = None
    """The contract's version that the backend declares, once it's known."""

    def factory(self, namespace: str) -> Factory:
        """Return the factory of the store of this namespace: empty at first, and none of another namespace's business.

        It's called several times with the same namespace: all its stores are the same one.

        :param namespace: 1 to 32 of `a-z 0-9 _`; `in_namespace` of a factory can make it
        """
        raise NotImplementedError

    def url(self) -> str:
        """Return a URL that `from_url` of the factory's class takes, with some settings if there are any."""
        raise NotImplementedError

    def raw_get(self, namespace: str, message_id: str) -> bytes:
        """Return what the store holds for a message, by a way around the backend."""
        raise NotImplementedError

    def raw_put(self, namespace: str, message_id: str, stored: bytes) -> None:
        """Replace what the store holds for a message that is there, by a way around the backend."""
        raise NotImplementedError

    def restart_server(self) -> None:
        """Stop the server, hard, and start it again with the same data, at the same address."""
        raise NotImplementedError

    def sever_network(self, namespace: str, through: Through) -> Factory:
        """Return the factory of a store that is reached through the suite's proxy.

        Call `through(host, port)` with the server's address, and let the factory connect to what that returns.
        """
        raise NotImplementedError

    def old_formats(self) -> Mapping[str, Callable[[str], Mapping[str, Any]]]:
        """Return, by name, what writes a store of an old format into a namespace and returns what must be found in it.

        That is a `MessageMetadata` for each message's id, or the `bytes` of its payload.
        """
        raise NotImplementedError

    def local_folder(self, namespace: str) -> Path:
        """Return the folder in which a store of local files keeps everything, and syncs it by `os.fsync`."""
        raise NotImplementedError

    def lend_client(self, namespace: str) -> tuple[Factory, Callable[[], bool]]:
        """Return a factory to which a client of the driver was lent, and what tells whether that still works."""
        raise NotImplementedError

    def begin_transaction(self, namespace: str) -> Transaction:
        """Return a connection of the driver's to the database of this store, with a transaction begun.

        It's used in one thread, and closed by whoever made it when the test is over.
        """
        raise NotImplementedError

    # -- fixtures ------------------------------------------------------------------------------------------------------

    @pytest.fixture
    def stores(self, request: pytest.FixtureRequest) -> Iterator[Stores[Factory, Backend]]:
        """Make stores for this test alone. Runs nothing if the suite's own set-up doesn't work."""
        if type(self) not in _verdicts:
            _verdicts[type(self)] = self._try_fixture()
        if _verdicts[type(self)]:
            not_run(f"the fixture doesn't work: {_verdicts[type(self)]}")
        stores = Stores[Factory, Backend](self.factory)
        yield stores
        for trouble in stores.clean_up():
            request.node.user_properties.append(("retryspool_trouble", trouble))

    def _try_fixture(self) -> str:
        """Return what is wrong with the fixture, or nothing."""
        stores = Stores[Factory, Backend](self.factory)
        try:
            type(self).retryspool_contract = stores.open(stores.new()).capabilities.contract
            self.try_fixture(stores)
        except Exception as error:  # noqa: BLE001 -- whatever is wrong, the tests' result would mean nothing
            return f"{type(error).__name__}: {error}"
        finally:
            stores.clean_up()
        return ""

    def try_fixture(self, stores: Stores[Factory, Backend]) -> None:
        """Try that stores open, are empty, and share nothing. For the suites; raises whatever is wrong."""
        raise NotImplementedError

    # -- the suite itself ----------------------------------------------------------------------------------------------

    @clause("FACTORY-1", "FACTORY-2")
    def test_the_fixture_makes_stores_that_are_empty_and_apart(self) -> None:
        assert "" == self._try_fixture()

    @clause("FACTORY-10")
    def test_the_backend_says_what_is_at_work(
        self, request: pytest.FixtureRequest, stores: Stores[Factory, Backend]
    ) -> None:
        described = about(stores.open(stores.new()))
        request.node.user_properties.append(("retryspool_about", described))

        assert {"backend", "driver", "server"} >= set(described["versions"])
        assert all(isinstance(text, str) and text for text in described["versions"].values())

    @clause("FACTORY-8")
    def test_no_test_is_overridden_without_a_reason(self) -> None:
        assert [] == weakened(type(self)), (
            "an overridden test needs @deviation(reason=…, issue=…), and is reported with it"
        )


def needs(suite: Suite[Any, Any], hook: str) -> None:
    """Skip the test if its suite doesn't have this hook."""
    if getattr(type(suite), hook) is getattr(Suite, hook):
        pytest.skip(f"hook {hook} isn't given")


def needs_capability(capabilities: object, name: str) -> None:
    """Skip the test if the backend declares this capability off."""
    if not getattr(capabilities, name):
        pytest.skip(f"capability {name} is declared off")


def needs_no_capability(capabilities: object, name: str) -> None:
    """Skip the test if the backend declares this capability on."""
    if getattr(capabilities, name):
        pytest.skip(f"capability {name} is declared on")


def not_run(why: str) -> NoReturn:
    """Leave a test that can't tell anything."""
    pytest.skip(f"not run: {why}")
