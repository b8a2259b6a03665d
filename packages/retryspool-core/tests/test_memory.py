"""What the backends in memory promise beyond what all do (that is in the conformance suite)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest

from retryspool import deadline
from retryspool.data import DataFactory
from retryspool.errors import BackendClosedError, DeadlineExceededError, InvalidUrlError, MessageNotFoundError
from retryspool.memory import MemoryData, MemoryDataFactory, MemoryMeta, MemoryMetaFactory
from retryspool.meta import MetaFactory, StateCounter
from retryspool.model import MessageMetadata, State, utc_now

HOUR = timedelta(hours=1)


@pytest.fixture
def meta() -> MemoryMeta:
    return MemoryMeta()


# -- which store -------------------------------------------------------------------------------------------------------


def test_a_backend_has_a_store_of_its_own() -> None:
    MemoryMeta().store_meta("a", MessageMetadata("a"))
    MemoryData().store_data("a", b"x")

    with pytest.raises(MessageNotFoundError):
        MemoryMeta().get_meta("a")
    assert [] == list(MemoryData().iter_data())


def test_a_factory_opens_its_store_again() -> None:
    meta, data = MemoryMetaFactory(), MemoryDataFactory()
    with meta.create() as backend:
        stored = backend.store_meta("a", MessageMetadata("a"))
    with data.create() as payloads:
        payloads.store_data("a", b"x")

    assert stored == meta.create().get_meta("a")
    assert b"x" == data.create().get_data_reader("a").read()


def test_factories_without_a_name_share_nothing() -> None:
    MemoryMetaFactory().create().store_meta("a", MessageMetadata("a"))

    assert 0 == MemoryMetaFactory().create().get_state_count(State.INCOMING)


def test_factories_of_one_name_share_a_store() -> None:
    name = f"Orders-{uuid4()}"
    MemoryMetaFactory(name).create().store_meta("a", MessageMetadata("a"))
    MemoryDataFactory(name).create().store_data("a", b"x")

    assert 1 == MemoryMetaFactory.from_url(f"memory:{name}").create().get_state_count(State.INCOMING)
    assert ["a"] == [info.message_id for info in MemoryDataFactory.from_url(f"memory:{name}").create().iter_data()]
    assert 0 == MemoryMetaFactory.from_url(f"memory:{name.lower()}").create().get_state_count(State.INCOMING)


@pytest.mark.parametrize("factory", [MemoryMetaFactory, MemoryDataFactory])
@pytest.mark.parametrize("url", ["memory:", "memory://"])
def test_a_url_without_a_name_is_a_store_of_its_own(factory: type[MetaFactory | DataFactory], url: str) -> None:
    assert factory() == factory.from_url(url)  # the settings; the stores are two


@pytest.mark.parametrize("factory", [MemoryMetaFactory, MemoryDataFactory])
@pytest.mark.parametrize("url", ["memory://Orders", "memory:x?sync=full"])
def test_a_url_with_what_memory_has_not_got_is_refused(factory: type[MetaFactory | DataFactory], url: str) -> None:
    with pytest.raises(InvalidUrlError):
        factory.from_url(url)


# -- nothing is shared with the caller ---------------------------------------------------------------------------------


def test_headers_belong_to_who_passed_them_and_to_who_got_them(meta: MemoryMeta) -> None:
    headers = {"k": "v"}
    stored = meta.store_meta("a", MessageMetadata("a", headers=headers))
    given = [stored, meta.get_meta("a"), *meta.iter_messages(State.INCOMING)]
    given.append(meta.move_to_state("a", State.INCOMING, State.INCOMING))
    given += meta.claim([State.INCOMING], limit=1, lease=HOUR, owner="w")
    given.append(meta.move_to_state("a", State.ACTIVE, State.HOLD))
    given.append(meta.update_meta("a", MessageMetadata("a", headers=headers)))

    for record in given:
        assert isinstance(record.headers, dict)
        record.headers["k"] = "changed"
    headers["k"] = "changed"

    assert {"k": "v"} == meta.get_meta("a").headers


def test_a_payload_belongs_to_the_store() -> None:
    data, content = MemoryData(), bytearray(b"kept")
    data.store_data("a", content)  # pyright: ignore[reportArgumentType] -- it is taken all the same

    content[:] = b"lost"

    assert b"kept" == data.get_data_reader("a").read()


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_a_wait_without_a_change_says_so(meta: MemoryMeta) -> None:
    assert not meta.wait_for_change(0.001)


def test_a_change_is_told_once(meta: MemoryMeta) -> None:
    meta.store_meta("a", MessageMetadata("a"))

    assert [True, False] == [meta.wait_for_change(0.001) for _ in range(2)]


def test_claims_renewals_and_deletions_are_no_change(meta: MemoryMeta) -> None:
    meta.store_meta("a", MessageMetadata("a"))
    meta.wait_for_change(0)

    claimed = meta.claim([State.INCOMING], limit=1, lease=HOUR, owner="w")
    meta.renew(claimed, lease=HOUR)
    meta.delete_meta("a")

    assert not meta.wait_for_change(0.001)


def test_a_change_wakes_every_waiter() -> None:
    factory = MemoryMetaFactory()
    shared, other = factory.create(), factory.create()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(backend.wait_for_change, 60) for backend in (shared, shared, other)]
        while len(shared._shared.changed._waiters) < 3:  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
            threading.Event().wait(0.001)
        shared.store_meta("a", MessageMetadata("a"))

        assert [True] * 3 == [each.result(30) for each in waiting]


def test_closing_wakes_who_waits(meta: MemoryMeta) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meta.wait_for_change, 60)
        meta.close()

        with pytest.raises(BackendClosedError):
            waiting.result(30)


def test_a_wait_may_be_without_end(meta: MemoryMeta) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meta.wait_for_change, float("inf"))
        meta.store_meta("a", MessageMetadata("a"))

        assert waiting.result(30)


# -- and the rest ------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is_not() -> None:
    assert not MemoryMeta.capabilities.durable
    assert not MemoryMeta.capabilities.processes
    assert not MemoryData.capabilities.durable
    assert not MemoryData.capabilities.processes


def test_it_counts(meta: MemoryMeta) -> None:
    assert isinstance(meta, StateCounter)
    meta.close()
    for count in (meta.get_state_count, meta.get_oldest_due):
        with pytest.raises(BackendClosedError):
            count(State.INCOMING)


def test_a_writer_cannot_outlive_its_backend() -> None:
    factory = MemoryDataFactory()
    data = factory.create()
    writer = data.get_data_writer("a")
    data.close()

    with pytest.raises(BackendClosedError):
        writer.close()

    assert [] == list(factory.create().iter_data())


def test_a_claim_does_not_look_at_what_is_not_due(meta: MemoryMeta) -> None:
    for number in range(50):
        meta.store_meta(f"m{number}", MessageMetadata(f"m{number}", next_retry=utc_now() + HOUR))
    meta.store_meta("due", MessageMetadata("due"))

    for oldest_first in (False, True):
        found = meta._shared.claimable(State.INCOMING, utc_now(), oldest_first=oldest_first)
        assert ["due"] == [record.id for record in found]


def test_a_wait_past_the_deadline_is_refused(meta: MemoryMeta) -> None:
    with deadline(0), pytest.raises(DeadlineExceededError):
        meta.wait_for_change(1)
