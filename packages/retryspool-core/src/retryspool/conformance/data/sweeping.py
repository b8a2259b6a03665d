"""What writers leave behind that never came to an end."""

from __future__ import annotations

import contextlib
import gc
import threading
from datetime import datetime, timedelta

import pytest

from retryspool import deadline
from retryspool.conformance.children import PATIENCE_S, children, say
from retryspool.conformance.comparing import assert_same
from retryspool.conformance.data.payloads import KIB, MIB, content, pieces
from retryspool.conformance.data_suite import DataSuite, assert_stored, read, sizes
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs_capability
from retryspool.data import DataBackend, DataFactory
from retryspool.errors import DataNotFoundError, StorageError
from retryspool.model import NEVER

__all__ = ["SweepingTests"]

_NO_SECONDS = timedelta(0)


class SweepingTests(DataSuite):
    @clause("DATA-22")
    def test_a_sweep_never_touches_a_complete_payload(self, data: DataBackend, profile: Profile) -> None:
        payloads = {"small": b"x", "empty": b"", "a.tmp.1": b"y", "large": content(profile.payload_bytes)}
        for message_id, payload in payloads.items():
            data.store_data(message_id, payload)
        data.store_data("replaced", content(2 * MIB))
        data.store_data("replaced", b"small now")
        with data.get_data_reader("large") as reader:
            first = reader.read(10)

            assert [] == list(data.sweep(NEVER, dry_run=True))
            assert [] == list(data.sweep(NEVER))

            assert_same(payloads["large"], first + reader.read())
        assert_stored({**payloads, "replaced": b"small now"}, data)

    @clause("DATA-22")
    def test_a_sweep_leaves_what_is_younger(self, data: DataBackend, profile: Profile) -> None:
        before = _time_of_the_store(data)
        small, large = data.get_data_writer("small"), data.get_data_writer("large")
        small.write(b"half")
        large.writelines(pieces(profile.payload_bytes))
        large.flush()

        assert [] == list(data.sweep(before, dry_run=True))
        assert [] == list(data.sweep(before))
        small.write(b" and half")
        small.close()
        large.close()

        assert_stored({"clock": b"x", "small": b"half and half", "large": content(profile.payload_bytes)}, data)

    @clause("DATA-22")
    def test_a_dry_run_only_tells(self, data: DataBackend, profile: Profile) -> None:
        data.store_data("old", b"kept")
        writer = data.get_data_writer("old")
        writer.writelines(pieces(profile.payload_bytes))
        writer.flush()

        told = [info.message_id for info in data.sweep(NEVER, dry_run=True)]

        assert told == [info.message_id for info in data.sweep(NEVER, dry_run=True)]
        assert {"old"} >= set(told)
        assert_stored({"old": b"kept"}, data)
        writer.close()
        assert_stored({"old": content(profile.payload_bytes)}, data)
        assert [] == list(data.sweep(NEVER))

    @clause("DATA-22")
    def test_a_writer_that_is_swept_stores_all_or_nothing(self, data: DataBackend, profile: Profile) -> None:
        data.store_data("old", b"kept")
        writer = data.get_data_writer("old")
        writer.writelines(pieces(profile.payload_bytes))
        writer.flush()

        told = [info.message_id for info in data.sweep(NEVER, dry_run=True)]
        assert told == [info.message_id for info in data.sweep(NEVER)]
        assert [] == list(data.sweep(NEVER))
        assert_stored({"old": b"kept"}, data)
        expected = content(profile.payload_bytes)
        try:
            writer.close()
        except StorageError:
            expected = b"kept"

        assert_stored({"old": expected}, data)

    @clause("DATA-22")
    def test_what_a_dropped_writer_left_is_swept(self, data: DataBackend, profile: Profile) -> None:
        before = _time_of_the_store(data)
        for message_id, size in (("a", 10), ("b", profile.payload_bytes)):
            writer = data.get_data_writer(message_id)
            writer.writelines(pieces(size))
            del writer
        gc.collect()

        _sweep(data, before, dead=False)

        assert {"clock": 1} == sizes(data)
        assert 3 == data.store_data("a", b"new", if_absent=True)

    @clause("DATA-22", "DATA-9", level=Level.DURABLE)
    def test_what_a_killed_writer_left_is_swept(
        self, data: DataBackend, data_factory: DataFactory, profile: Profile
    ) -> None:
        needs_capability(data.capabilities, "processes")
        before = _time_of_the_store(data)
        data.store_data("old", b"kept")
        sizes_left = {"a": 10, "b": profile.payload_bytes, "old": 3 * MIB}
        with children(1) as (child,):
            assert "written" == child.call(_write_and_wait, data_factory, sizes_left)
            assert [] == child.kill()

        assert_stored({"clock": b"x", "old": b"kept"}, data)
        with pytest.raises(DataNotFoundError):
            data.get_data_reader("a")
        with deadline(PATIENCE_S):  # the dead hold nothing that the living wait for
            assert 3 == data.store_data("a", b"new", if_absent=True)
            assert 5 == data.store_data("old", b"newer")

        _sweep(data, before, dead=True)

        assert {"clock": 1, "a": 3, "old": 5} == sizes(data)
        assert (b"new", b"newer") == (read(data, "a"), read(data, "old"))


def _time_of_the_store(data: DataBackend) -> datetime:
    """Return when a payload was stored, by the clock that goes by."""
    data.store_data("clock", b"x")
    (info,) = data.iter_data()
    return info.modified


def _sweep(data: DataBackend, before: datetime, *, dead: bool) -> None:
    """Sweep what was left after `before`, if anything was; then there's nothing left.

    :param dead: nobody else cleans it up meanwhile, as the writer's own process may
    """
    assert [] == list(data.sweep(before))
    visible = sizes(data)

    left = sorted(info.message_id for info in data.sweep(NEVER, dry_run=True))
    again = sorted(info.message_id for info in data.sweep(NEVER, dry_run=True))
    swept = list(data.sweep(NEVER))

    if dead:
        assert left == again == sorted(info.message_id for info in swept)
    assert all(info.modified >= before and info.size >= 0 for info in swept)
    assert all(_NO_SECONDS == info.modified.utcoffset() for info in swept)
    assert [] == list(data.sweep(NEVER))
    assert visible == sizes(data)


def _write_and_wait(factory: DataFactory, sizes_left: dict[str, int]) -> None:
    """Write without closing, say so, and wait to be killed. In a child."""
    data = factory.create()
    with contextlib.ExitStack() as writers:
        for message_id, size in sizes_left.items():
            writer = writers.enter_context(data.get_data_writer(message_id))
            for piece in pieces(size):
                for at in range(0, len(piece), 64 * KIB):
                    writer.write(piece[at : at + 64 * KIB])
            writer.flush()
        say("written")
        threading.Event().wait()
