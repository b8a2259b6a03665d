"""Records over a `fork()`: a connection that two processes use mixes up their replies."""

from __future__ import annotations

from retryspool.conformance.forking import Forked, Forks, Meet, fork_in_child, needs_fork
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.model import MessageMetadata

__all__ = ["ForkTests"]

TIMES = 100
FEW = 20
"""How often each of the two writes and reads."""


class ForkTests(MetaSuite):
    @clause("META-45", level=Level.CONCURRENT)
    def test_a_fork_mixes_up_no_replies(
        self, meta: MetaBackend, meta_factory: MetaFactory, open_meta: OpenMeta
    ) -> None:
        needs_fork(meta.capabilities)

        forked = fork_in_child(_forks(meta_factory).share, TIMES)

        assert not forked.parent
        assert forked.refused or not forked.child
        assert 1 + TIMES == open_meta().get_meta("parent").version
        assert forked.refused or 1 + TIMES == meta.get_meta("child").version

    @clause("META-45", level=Level.CONCURRENT)
    def test_closing_in_the_child_closes_nothing_of_the_parents(
        self, meta: MetaBackend, meta_factory: MetaFactory
    ) -> None:
        needs_fork(meta.capabilities)

        forked = fork_in_child(_forks(meta_factory).close, FEW)

        assert not forked.parent
        assert forked.refused or not forked.child
        assert 1 + FEW == meta.get_meta("parent").version

    @clause("META-45", level=Level.CONCURRENT)
    def test_a_forked_process_can_open_the_store_for_itself(self, meta: MetaBackend, meta_factory: MetaFactory) -> None:
        needs_fork(meta.capabilities)

        forked = fork_in_child(_forks(meta_factory).open_again, FEW)

        assert Forked("", "") == forked
        assert (1 + FEW, 1 + FEW) == (meta.get_meta("parent").version, meta.get_meta("child").version)


def _forks(factory: MetaFactory) -> Forks[MetaBackend]:
    return Forks(factory.create, _store, _use)


def _store(meta: MetaBackend, message_id: str) -> None:
    meta.store_meta(message_id, MessageMetadata(message_id))


def _use(meta: MetaBackend, message_id: str, times: int, meet: Meet) -> str:
    """Write and read a record of one's own; return what is wrong with a reply."""
    for number in range(times):
        content = f"{message_id} {number}"
        meet()
        written = meta.update_meta(message_id, MessageMetadata(message_id, last_error=content))
        meet()
        read = meta.get_meta(message_id)
        if not (written == read and (content, number + 2) == (read.last_error, read.version)):
            return f"wrote {content!r}, was told {written}, read {read}"
    return ""
