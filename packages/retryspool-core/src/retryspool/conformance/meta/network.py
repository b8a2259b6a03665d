"""Networks that fail: given up in time, told as it is, and over when they're sound again."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from retryspool.conformance.attempts import is_given_up, result_of, soon
from retryspool.conformance.faults import (
    BLACK_HOLE,
    DRIP,
    FAULTS,
    HALF_OPEN,
    LOST_REPLY,
    REFUSED,
    RESET_REPLY,
    Fault,
)
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.network_calls import TRAFFIC
from retryspool.conformance.meta_suite import MetaSuite, everything
from retryspool.conformance.network import (
    LANES,
    check_close,
    check_cut,
    check_hang,
    check_healed,
    check_iteration,
    check_nobody,
    check_reads,
    check_writes,
    fresh,
)
from retryspool.conformance.profiles import Profile
from retryspool.conformance.severing import Link, Sever, Severing
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.model import MessageMetadata, State

__all__ = ["NetworkTests"]

MetaLink = Link[MetaFactory, MetaBackend]
MetaSever = Sever[MetaFactory, MetaBackend]


class NetworkTests(MetaSuite, Severing[MetaFactory, MetaBackend]):
    @pytest.fixture
    def link(self, sever: MetaSever, meta_factory: MetaFactory, meta: MetaBackend) -> MetaLink:
        """Open the test's store, reached through a network; it has a message on hold, `there`."""
        meta.store_meta("there", MessageMetadata("there", state=State.HOLD, headers={"k": "v"}))
        return sever(meta_factory)

    # -- META-53 -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", [BLACK_HOLE, LOST_REPLY, HALF_OPEN, DRIP], ids=str)
    @clause("META-53", level=Level.NETWORK)
    def test_a_store_that_hangs_is_given_up_in_time(
        self, link: MetaLink, meta: MetaBackend, profile: Profile, fault: Fault
    ) -> None:
        for _ in range(profile.faults):
            check_hang(TRAFFIC, link, meta, fault)

    @clause("META-53", level=Level.NETWORK)
    def test_closing_does_not_wait_for_a_store_that_hangs(self, link: MetaLink) -> None:
        check_close(TRAFFIC, link)

    # -- META-54 -------------------------------------------------------------------------------------------------------

    @clause("META-54", level=Level.NETWORK)
    def test_what_may_have_become_of_a_write_is_told(
        self, sever: MetaSever, meta_factory: MetaFactory, meta: MetaBackend, profile: Profile
    ) -> None:
        meta.store_meta("there", MessageMetadata("there", state=State.HOLD))
        check_writes(TRAFFIC, [sever(meta_factory) for _ in range(LANES)], meta, profile.faults)

    @clause("META-54", level=Level.NETWORK)
    def test_a_read_is_right_or_has_done_nothing(self, link: MetaLink, profile: Profile) -> None:
        check_reads(TRAFFIC, link, profile.faults)

    @clause("META-54", level=Level.NETWORK)
    def test_what_could_not_be_sent_was_not_done(self, link: MetaLink, meta: MetaBackend) -> None:
        check_nobody(TRAFFIC, link)

        assert {"there"} == set(everything(meta))

    # -- META-55 -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    @clause("META-55", level=Level.NETWORK)
    def test_it_works_again_with_as_many_connections(self, link: MetaLink, profile: Profile, fault: Fault) -> None:
        check_healed(TRAFFIC, link, profile.racers, fault, profile.faults)

    @clause("META-55", level=Level.NETWORK)
    def test_it_works_again_when_all_connections_were_cut(self, link: MetaLink, profile: Profile) -> None:
        check_cut(TRAFFIC, link, profile.racers)

    @clause("META-36", "META-55", level=Level.NETWORK)
    def test_an_iteration_that_is_cut_never_ends_as_if_it_were_complete(
        self, link: MetaLink, meta: MetaBackend, profile: Profile
    ) -> None:
        ids = [f"m{number}" for number in range(12)]
        for message_id in ids:
            meta.store_meta(message_id, MessageMetadata(message_id))

        check_iteration(_incoming, link, sorted(ids), profile.faults)

    @pytest.mark.parametrize("fault", [RESET_REPLY, BLACK_HOLE, HALF_OPEN, REFUSED], ids=str)
    @clause("META-41", "META-55", level=Level.NETWORK)
    def test_a_wait_that_is_hit_ends_and_later_ones_are_woken(
        self, link: MetaLink, meta: MetaBackend, fault: Fault
    ) -> None:
        soon(lambda: link.backend.wait_for_change(0.01))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(result_of, lambda: link.backend.wait_for_change(0.3), limit_s=0.6)
            with link.network.failing(fault):
                link.network.cut()
                hit = waiting.result(0.6 + 5)
        assert isinstance(hit, bool) or is_given_up(hit), repr(hit)

        assert soon(lambda: _is_woken(link.backend, meta))


def _incoming(meta: MetaBackend) -> list[str]:
    return sorted(record.id for record in meta.iter_messages(State.INCOMING, 3))


def _is_woken(meta: MetaBackend, sound: MetaBackend) -> bool:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(result_of, lambda: meta.wait_for_change(0.5), limit_s=1.0)
        threading.Event().wait(0.05)  # it may wait by then; woken it must be either way
        message_id = fresh("change")
        sound.store_meta(message_id, MessageMetadata(message_id))
        woken = waiting.result()
    assert woken is True, f"a change has woken nobody: {woken!r}"
    return woken
