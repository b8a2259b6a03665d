"""Payloads over a `fork()`: a connection that two processes use mixes up their replies."""

from __future__ import annotations

import os

import pytest

from retryspool.conformance.children import children
from retryspool.conformance.data.contents import content, name_of
from retryspool.conformance.data_suite import DataSuite, OpenData, read
from retryspool.conformance.forking import Forked, fork
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.suite import needs_capability
from retryspool.data import DataBackend, DataFactory

__all__ = ["ForkTests"]

TIMES = 100
FEW = 20
"""How often each of the two stores and reads."""


class ForkTests(DataSuite):
    @clause("DATA-26", level=Level.CONCURRENT)
    def test_a_fork_mixes_up_no_replies(
        self, data: DataBackend, data_factory: DataFactory, open_data: OpenData
    ) -> None:
        _needs_fork(data)
        with children(1) as (child,):
            forked = child.call(_share, data_factory)

        assert isinstance(forked, Forked)
        assert not forked.parent
        assert forked.refused or not forked.child
        assert f"parent-{TIMES - 1}" == name_of(read(open_data(), "parent"))
        assert forked.refused or f"child-{TIMES - 1}" == name_of(read(data, "child"))

    @clause("DATA-26", level=Level.CONCURRENT)
    def test_closing_in_the_child_closes_nothing_of_the_parents(
        self, data: DataBackend, data_factory: DataFactory
    ) -> None:
        _needs_fork(data)
        with children(1) as (child,):
            forked = child.call(_close, data_factory)

        assert isinstance(forked, Forked)
        assert not forked.parent
        assert forked.refused or not forked.child
        assert f"parent-{FEW - 1}" == name_of(read(data, "parent"))

    @clause("DATA-26", level=Level.CONCURRENT)
    def test_a_forked_process_can_open_the_store_for_itself(self, data: DataBackend, data_factory: DataFactory) -> None:
        _needs_fork(data)
        with children(1) as (child,):
            forked = child.call(_open_again, data_factory)

        assert Forked("", "") == forked
        assert [f"parent-{FEW - 1}", f"child-{FEW - 1}"] == [name_of(read(data, each)) for each in ("parent", "child")]


def _needs_fork(data: DataBackend) -> None:
    needs_capability(data.capabilities, "processes")
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")


def _opened(factory: DataFactory) -> DataBackend:
    data = factory.create()
    for message_id in ("parent", "child"):  # so that what connections there are were used
        data.store_data(message_id, content("first", 100))
    return data


def _share(factory: DataFactory) -> Forked:
    with _opened(factory) as data:
        return fork(lambda: _use(data, "parent", TIMES), lambda: _use(data, "child", TIMES))


def _close(factory: DataFactory) -> Forked:
    with _opened(factory) as data:

        def close() -> str:
            data.close()
            return ""

        return fork(lambda: _use(data, "parent", FEW), close)


def _open_again(factory: DataFactory) -> Forked:
    with _opened(factory) as data:

        def use_another() -> str:
            with factory.create() as own:
                return _use(own, "child", FEW)

        return fork(lambda: _use(data, "parent", FEW), use_another)


def _use(data: DataBackend, message_id: str, times: int) -> str:
    """Store and read a payload of one's own; return what is wrong with a reply."""
    for number in range(times):
        name, size = f"{message_id}-{number}", 40 + number * 17
        stored = data.store_data(message_id, content(name, size))
        found = name_of(read(data, message_id))
        if (size, name) != (stored, found):
            return f"stored {name!r} of {size} bytes, was told {stored} bytes, read {found!r}"
    return ""
