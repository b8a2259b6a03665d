"""Networks that fail: given up in time, told as it is, and over when they're sound again."""

from __future__ import annotations

from functools import partial
from typing import BinaryIO

import pytest

from retryspool.conformance.attempts import is_given_up, result_of, soon
from retryspool.conformance.comparing import assert_same
from retryspool.conformance.data.network_calls import THERE, TRAFFIC, judge_write, look, new
from retryspool.conformance.data_suite import DataSuite, read, sizes
from retryspool.conformance.faults import (
    BLACK_HOLE,
    CUTS,
    DRIP,
    FAULTS,
    HALF_OPEN,
    LOST_REPLY,
    REFUSED,
    RESET_REPLY,
    RESET_REQUEST,
    Fault,
)
from retryspool.conformance.marks import Level, clause
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
from retryspool.conformance.severing import Link, Sever, Severing, plans
from retryspool.data import DataBackend, DataFactory

__all__ = ["NetworkTests"]

DataLink = Link[DataFactory, DataBackend]
DataSever = Sever[DataFactory, DataBackend]

_LARGE_BYTES = 12 * 1024 * 1024
"""Several parts, for any store that splits payloads."""
_LONG_BYTES = 3 * 1024 * 1024
"""More than the buffers between a server and its client hold."""


class NetworkTests(DataSuite, Severing[DataFactory, DataBackend]):
    @pytest.fixture
    def link(self, sever: DataSever, data_factory: DataFactory, data: DataBackend) -> DataLink:
        """Open the test's store, reached through a network; it has one payload, `there`."""
        data.store_data("there", THERE)
        return sever(data_factory)

    # -- DATA-34 -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", [BLACK_HOLE, LOST_REPLY, HALF_OPEN, DRIP], ids=str)
    @clause("DATA-34", level=Level.NETWORK)
    def test_a_store_that_hangs_is_given_up_in_time(
        self, link: DataLink, data: DataBackend, profile: Profile, fault: Fault
    ) -> None:
        for _ in range(profile.faults):
            check_hang(TRAFFIC, link, data, fault)

    @clause("DATA-34", level=Level.NETWORK)
    def test_closing_does_not_wait_for_a_store_that_hangs(self, link: DataLink) -> None:
        check_close(TRAFFIC, link)

    # -- DATA-35 -------------------------------------------------------------------------------------------------------

    @clause("DATA-35", level=Level.NETWORK)
    def test_what_may_have_become_of_a_write_is_told(
        self, sever: DataSever, data_factory: DataFactory, data: DataBackend, profile: Profile
    ) -> None:
        data.store_data("there", THERE)
        check_writes(TRAFFIC, [sever(data_factory) for _ in range(LANES)], data, profile.faults)

    @clause("DATA-35", level=Level.NETWORK)
    def test_what_may_have_become_of_a_large_payload_is_told(
        self, link: DataLink, data: DataBackend, profile: Profile
    ) -> None:
        wrong: list[str] = []
        for plan, limit_s in plans(CUTS, profile.faults, points=2):
            message_id = fresh("large")
            content = new(message_id, _LARGE_BYTES)
            with link.network.failing(plan):
                answer = result_of(partial(link.backend.store_data, message_id, content), limit_s=limit_s)
            wrong.append(judge_write(None, content, look(data, message_id), answer))
            soon(lambda: read(link.backend, "there"))

        assert [] == list(filter(None, wrong))

    @clause("DATA-35", level=Level.NETWORK)
    def test_a_read_is_right_or_has_done_nothing(self, link: DataLink, profile: Profile) -> None:
        check_reads(TRAFFIC, link, profile.faults)

    @clause("DATA-35", level=Level.NETWORK)
    def test_what_could_not_be_sent_was_not_done(self, link: DataLink, data: DataBackend) -> None:
        check_nobody(TRAFFIC, link)

        assert {"there": len(THERE)} == sizes(data)

    # -- DATA-36 -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    @clause("DATA-36", level=Level.NETWORK)
    def test_it_works_again_with_as_many_connections(self, link: DataLink, profile: Profile, fault: Fault) -> None:
        check_healed(TRAFFIC, link, profile.racers, fault, profile.faults)

    @clause("DATA-36", level=Level.NETWORK)
    def test_it_works_again_when_all_connections_were_cut(self, link: DataLink, profile: Profile) -> None:
        check_cut(TRAFFIC, link, profile.racers)

    @clause("DATA-17", "DATA-36", level=Level.NETWORK)
    def test_an_iteration_that_is_cut_never_ends_as_if_it_were_complete(
        self, link: DataLink, data: DataBackend, profile: Profile
    ) -> None:
        data.store_many([(f"m{number}", b"x" * number) for number in range(40)])

        check_iteration(sizes, link, sizes(data), profile.faults)

    @clause("DATA-11", "DATA-36", level=Level.NETWORK)
    def test_a_reader_that_is_cut_never_ends_as_if_it_were_at_the_end(
        self, link: DataLink, data: DataBackend, profile: Profile
    ) -> None:
        content = new("long", _LONG_BYTES)
        data.store_data("long", content)

        for plan, limit_s in plans(CUTS, profile.faults, points=2):
            reader = soon(lambda: _open_and_read(link.backend, "long", 1000))
            with link.network.failing(plan):
                if plan.times is None:
                    link.network.cut()
                rest = result_of(partial(_rest, reader, 1000), limit_s=limit_s)
            _let_go(reader)
            if not is_given_up(rest):
                assert_same(content, rest, plan.summary)
            with link.network.failing(plan):
                whole = result_of(lambda: read(link.backend, "long"), limit_s=limit_s)
            if not is_given_up(whole):
                assert_same(content, whole, plan.summary)
            assert_same(THERE, soon(lambda: read(link.backend, "there")))

    @pytest.mark.parametrize("fault", [RESET_REQUEST, RESET_REPLY, HALF_OPEN, REFUSED], ids=str)
    @clause("DATA-8", "DATA-36", level=Level.NETWORK)
    def test_a_writer_that_is_cut_makes_all_visible_or_nothing(
        self, link: DataLink, data: DataBackend, fault: Fault
    ) -> None:
        contents = {name: new(name, _LARGE_BYTES) for name in ("one", "there")}
        old = {"one": None, "there": THERE}

        for name, content in contents.items():

            def write(name: str = name, content: bytes = content) -> int:
                with link.backend.get_data_writer(name) as writer:
                    writer.write(content[: _LARGE_BYTES // 2])
                    link.network.inflict(fault)
                    link.network.cut()
                    writer.write(content[_LARGE_BYTES // 2 :])
                return writer.size

            answer = result_of(write, limit_s=0.6)
            link.network.heal()

            wrong = judge_write(old[name], content, look(data, name), answer)
            assert not wrong, wrong
            soon(lambda: TRAFFIC.store_and_read(link.backend, "after"))


def _open_and_read(data: DataBackend, message_id: str, size: int) -> BinaryIO:
    reader = data.get_data_reader(message_id)
    assert_same(new(message_id, _LONG_BYTES)[:size], reader.read(size))
    return reader


def _rest(reader: BinaryIO, offset: int) -> bytes:
    """Return the whole payload of a reader of which so much was read."""
    parts = [new("long", _LONG_BYTES)[:offset]]
    while part := reader.read(100_000):
        parts.append(part)
    return b"".join(parts)


def _let_go(reader: BinaryIO) -> None:
    result = result_of(reader.close, limit_s=1.0)
    assert result is None or is_given_up(result), repr(result)
