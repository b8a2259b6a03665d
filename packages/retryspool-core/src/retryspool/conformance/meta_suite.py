"""What the tests of metadata backends are made with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from retryspool.conformance.stores import Stores
from retryspool.conformance.suite import Suite
from retryspool.meta import MetaBackend, MetaFactory, NoteKeeper, StateCounter
from retryspool.model import MessageMetadata, State, utc_now

__all__ = ["MetaSuite", "NewMeta", "OpenMeta", "everything", "needs_counts", "needs_notes"]

OpenMeta = Callable[[], MetaBackend]
"""Opens the store of the test once more, as another process would."""

NewMeta = Callable[[], MetaBackend]
"""Opens a store that nobody has opened before."""


class MetaSuite(Suite[MetaFactory, MetaBackend]):
    """The base of each part of `MetaBackendSuite`."""

    @pytest.fixture
    def meta_factory(self, stores: Stores[MetaFactory, MetaBackend]) -> MetaFactory:
        """The factory of this test's store."""
        return stores.new()

    @pytest.fixture
    def meta(self, stores: Stores[MetaFactory, MetaBackend], meta_factory: MetaFactory) -> MetaBackend:
        """The store of this test, open, and empty at first."""
        return stores.open(meta_factory)

    @pytest.fixture
    def open_meta(self, stores: Stores[MetaFactory, MetaBackend], meta_factory: MetaFactory) -> OpenMeta:
        """Open this test's store once more."""
        return lambda: stores.open(meta_factory)

    @pytest.fixture
    def new_meta(self, stores: Stores[MetaFactory, MetaBackend]) -> NewMeta:
        """Open another store, empty at first."""
        return lambda: stores.open(stores.new())

    @pytest.fixture
    def clock(self, stores: Stores[MetaFactory, MetaBackend]) -> Callable[[], datetime]:
        """Tell the time by the clock that the backend goes by: the server's or this machine's."""
        probe = stores.open(stores.new())
        if not probe.capabilities.server_clock:
            return utc_now
        probe.store_meta("clock", MessageMetadata("clock"))
        return lambda: probe.update_meta("clock", MessageMetadata("clock")).updated

    def try_fixture(self, stores: Stores[MetaFactory, MetaBackend]) -> None:
        one, other = stores.open(stores.new()), stores.open(stores.new())
        _expect({}, everything(one), "a new store isn't empty")
        one.store_meta("fixture", MessageMetadata("fixture"))
        _expect(["fixture"], list(everything(one)), "what was stored isn't there")
        _expect({}, everything(other), "a namespace holds what was stored in another")


def everything(meta: MetaBackend) -> dict[str, MessageMetadata]:
    """Return all records of a store.

    :raises AssertionError: one was yielded twice
    """
    found = [record for state in State for record in meta.iter_messages(state)]
    by_id = {record.id: record for record in found}
    assert len(by_id) == len(found), "a record was yielded twice, or is in two states"
    return by_id


def needs_counts(meta: MetaBackend) -> StateCounter:
    """Return the backend as what counts; skip the test if it doesn't."""
    if not isinstance(meta, StateCounter):
        pytest.skip("the backend has no counts, which are optional")
    return meta


def needs_notes(meta: MetaBackend) -> NoteKeeper:
    """Return the backend as what keeps notes; skip the test if it doesn't."""
    if not isinstance(meta, NoteKeeper):
        pytest.skip("the backend keeps no notes, which are optional")
    return meta


def _expect(expected: object, found: object, otherwise: str) -> None:
    if expected != found:
        raise AssertionError(otherwise)
