"""What the tests of data backends are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from retryspool.conformance.comparing import assert_all_same
from retryspool.conformance.stores import Stores
from retryspool.conformance.suite import Suite
from retryspool.data import DataBackend, DataFactory

__all__ = ["DataSuite", "NewData", "OpenData", "assert_stored", "read", "sizes"]

OpenData = Callable[[], DataBackend]
"""Opens the store of the test once more, as another process would."""

NewData = Callable[[], DataBackend]
"""Opens a store that nobody has opened before."""


class DataSuite(Suite[DataFactory, DataBackend]):
    """The base of each part of `DataBackendSuite`."""

    @pytest.fixture
    def data_factory(self, stores: Stores[DataFactory, DataBackend]) -> DataFactory:
        """The factory of this test's store."""
        return stores.new()

    @pytest.fixture
    def data(self, stores: Stores[DataFactory, DataBackend], data_factory: DataFactory) -> DataBackend:
        """The store of this test, open, and empty at first."""
        return stores.open(data_factory)

    @pytest.fixture
    def open_data(self, stores: Stores[DataFactory, DataBackend], data_factory: DataFactory) -> OpenData:
        """Open this test's store once more."""
        return lambda: stores.open(data_factory)

    @pytest.fixture
    def new_data(self, stores: Stores[DataFactory, DataBackend]) -> NewData:
        """Open another store, empty at first."""
        return lambda: stores.open(stores.new())

    def try_fixture(self, stores: Stores[DataFactory, DataBackend]) -> None:
        one, other = stores.open(stores.new()), stores.open(stores.new())
        if sizes(one):
            raise AssertionError("a new store isn't empty")
        one.store_data("fixture", b"fixture")
        if read(one, "fixture") != b"fixture":
            raise AssertionError("what was stored isn't there")
        if sizes(other):
            raise AssertionError("a namespace holds what was stored in another")


def read(data: DataBackend, message_id: str) -> bytes:
    """Return a whole payload."""
    with data.get_data_reader(message_id) as reader:
        return reader.read()


def assert_stored(expected: Mapping[str, bytes], data: DataBackend) -> None:
    """Compare all payloads of a store, both as it iterates them and as they are read."""
    __tracebackhide__ = True  # what called it tells more
    assert_all_same({message_id: len(payload) for message_id, payload in expected.items()}, sizes(data), "the size of")
    assert_all_same(expected, {message_id: read(data, message_id) for message_id in expected})


def sizes(data: DataBackend) -> dict[str, int]:
    """Return the size of each payload of a store.

    :raises AssertionError: one was yielded twice
    """
    found = [(info.message_id, info.size) for info in data.iter_data()]
    assert len(found) == len(dict(found)), "a payload was yielded twice"
    return dict(found)
