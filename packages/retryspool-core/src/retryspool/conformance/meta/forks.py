"""Records over a `fork()`: a connection that two processes use mixes up their replies."""

from __future__ import annotations

import os

import pytest

from retryspool.conformance.children import children
from retryspool.conformance.forking import Forked, fork
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta
from retryspool.conformance.suite import needs_capability
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
        _needs_fork(meta)
        with children(1) as (child,):
            forked = child.call(_share, meta_factory)

        assert isinstance(forked, Forked)
        assert not forked.parent
        assert forked.refused or not forked.child
        assert 1 + TIMES == open_meta().get_meta("parent").version
        assert forked.refused or 1 + TIMES == meta.get_meta("child").version

    @clause("META-45", level=Level.CONCURRENT)
    def test_closing_in_the_child_closes_nothing_of_the_parents(
        self, meta: MetaBackend, meta_factory: MetaFactory
    ) -> None:
        _needs_fork(meta)
        with children(1) as (child,):
            forked = child.call(_close, meta_factory)

        assert isinstance(forked, Forked)
        assert not forked.parent
        assert forked.refused or not forked.child
        assert 1 + FEW == meta.get_meta("parent").version

    @clause("META-45", level=Level.CONCURRENT)
    def test_a_forked_process_can_open_the_store_for_itself(self, meta: MetaBackend, meta_factory: MetaFactory) -> None:
        _needs_fork(meta)
        with children(1) as (child,):
            forked = child.call(_open_again, meta_factory)

        assert Forked("", "") == forked
        assert (1 + FEW, 1 + FEW) == (meta.get_meta("parent").version, meta.get_meta("child").version)


def _needs_fork(meta: MetaBackend) -> None:
    needs_capability(meta.capabilities, "processes")
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")


def _opened(factory: MetaFactory) -> MetaBackend:
    meta = factory.create()
    for message_id in ("parent", "child"):
        meta.store_meta(message_id, MessageMetadata(message_id))
    return meta


def _share(factory: MetaFactory) -> Forked:
    with _opened(factory) as meta:
        return fork(lambda: _use(meta, "parent", TIMES), lambda: _use(meta, "child", TIMES))


def _close(factory: MetaFactory) -> Forked:
    with _opened(factory) as meta:

        def close() -> str:
            meta.close()
            return ""

        return fork(lambda: _use(meta, "parent", FEW), close)


def _open_again(factory: MetaFactory) -> Forked:
    with _opened(factory) as meta:

        def use_another() -> str:
            with factory.create() as own:
                return _use(own, "child", FEW)

        return fork(lambda: _use(meta, "parent", FEW), use_another)


def _use(meta: MetaBackend, message_id: str, times: int) -> str:
    """Write and read a record of one's own; return what is wrong with a reply."""
    for number in range(times):
        content = f"{message_id} {number}"
        written = meta.update_meta(message_id, MessageMetadata(message_id, last_error=content))
        read = meta.get_meta(message_id)
        if not (written == read and (content, number + 2) == (read.last_error, read.version)):
            return f"wrote {content!r}, was told {written}, read {read}"
    return ""
