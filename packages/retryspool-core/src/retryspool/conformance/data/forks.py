"""Payloads over a `fork()`: a connection that two processes use mixes up their replies."""

from __future__ import annotations

from retryspool.conformance.data.contents import content, name_of
from retryspool.conformance.data_suite import DataSuite, OpenData, read
from retryspool.conformance.forking import Forked, Forks, Meet, fork_in_child, needs_fork
from retryspool.conformance.marks import Level, clause
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
        needs_fork(data.capabilities)

        forked = fork_in_child(_forks(data_factory).share, TIMES)

        assert not forked.parent
        assert forked.refused or not forked.child
        assert f"parent-{TIMES - 1}" == name_of(read(open_data(), "parent"))
        assert forked.refused or f"child-{TIMES - 1}" == name_of(read(data, "child"))

    @clause("DATA-26", level=Level.CONCURRENT)
    def test_closing_in_the_child_closes_nothing_of_the_parents(
        self, data: DataBackend, data_factory: DataFactory
    ) -> None:
        needs_fork(data.capabilities)

        forked = fork_in_child(_forks(data_factory).close, FEW)

        assert not forked.parent
        assert forked.refused or not forked.child
        assert f"parent-{FEW - 1}" == name_of(read(data, "parent"))

    @clause("DATA-26", level=Level.CONCURRENT)
    def test_a_forked_process_can_open_the_store_for_itself(self, data: DataBackend, data_factory: DataFactory) -> None:
        needs_fork(data.capabilities)

        forked = fork_in_child(_forks(data_factory).open_again, FEW)

        assert Forked("", "") == forked
        assert [f"parent-{FEW - 1}", f"child-{FEW - 1}"] == [name_of(read(data, each)) for each in ("parent", "child")]


def _forks(factory: DataFactory) -> Forks[DataBackend]:
    return Forks(factory.create, _store, _use)


def _store(data: DataBackend, message_id: str) -> None:
    data.store_data(message_id, content("first", 100))


def _use(data: DataBackend, message_id: str, times: int, meet: Meet) -> str:
    """Store and read a payload of one's own; return what is wrong with a reply."""
    for number in range(times):
        name, size = f"{message_id}-{number}", 40 + number * 17
        meet()
        stored = data.store_data(message_id, content(name, size))
        meet()
        found = name_of(read(data, message_id))
        if (size, name) != (stored, found):
            return f"stored {name!r} of {size} bytes, was told {stored} bytes, read {found!r}"
    return ""
