"""Opening again, closing, deadlines and waiting: META 7, 9, 10, 11."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from retryspool import deadline
from retryspool.errors import BackendClosedError, DeadlineExceededError
from retryspool.meta import Delete, ListOptions, MetaBackend, MetaFactory, Store
from retryspool.model import MessageMetadata, State

HOUR = timedelta(hours=1)
HELD = MessageMetadata("a", state=State.ACTIVE, version=1)


def everything(meta: MetaBackend) -> dict[str, MessageMetadata]:
    return {record.id: record for state in State for record in meta.iter_messages(state)}


CALLS: dict[str, Callable[[MetaBackend], object]] = {
    "store": lambda meta: meta.store_meta("new", MessageMetadata("new")),
    "get": lambda meta: meta.get_meta("a"),
    "update": lambda meta: meta.update_meta("a", MessageMetadata("a", size=1)),
    "delete": lambda meta: meta.delete_meta("a"),
    "move": lambda meta: meta.move_to_state("a", State.INCOMING, State.HOLD),
    "list": lambda meta: meta.list_messages(State.INCOMING),
    "count": lambda meta: meta.list_messages(State.INCOMING, ListOptions(limit=0)),
    "iterate": lambda meta: list(meta.iter_messages(State.INCOMING)),
    "claim": lambda meta: meta.claim([State.INCOMING], limit=1, lease=HOUR, owner="w"),
    "renew": lambda meta: meta.renew([HELD], lease=HOUR),
    "apply": lambda meta: meta.apply([Delete("a"), Store(MessageMetadata("new"))]),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_backend_refuses_every_call(meta: MetaBackend, meta_factory: MetaFactory, call: str) -> None:
    stored = meta.store_meta("a", MessageMetadata("a"))
    meta.close()

    with pytest.raises(BackendClosedError):
        CALLS[call](meta)

    with meta_factory.create() as again:
        assert [stored] == list(again.iter_messages(State.INCOMING))


def test_an_iteration_ends_with_an_error_when_the_backend_is_closed_under_it(meta: MetaBackend) -> None:
    for number in range(300):
        meta.store_meta(f"m{number}", MessageMetadata(f"m{number}"))
    iteration = meta.iter_messages(State.INCOMING, 10)
    next(iteration)

    meta.close()

    with pytest.raises(BackendClosedError):
        list(iteration)


def test_a_backend_may_be_closed_again(meta: MetaBackend) -> None:
    meta.close()
    meta.close()


def test_a_backend_is_closed_at_the_end_of_its_block(meta: MetaBackend) -> None:
    with meta as same:
        assert same is meta
    with pytest.raises(BackendClosedError):
        meta.get_meta("a")


def test_what_was_written_is_there_when_the_store_is_opened_again(meta: MetaBackend, meta_factory: MetaFactory) -> None:
    for state in State:
        meta.store_meta(state.label, MessageMetadata(state.label, state=state, headers={"k": "v"}))
    claimed = meta.claim([State.INCOMING], limit=1, lease=HOUR, owner="w")
    meta.renew(claimed, lease=HOUR)
    meta.move_to_state("hold", State.HOLD, State.DEFERRED)
    meta.delete_meta("bounce")
    written = everything(meta)
    meta.close()

    with meta_factory.create() as again:
        assert written == everything(again)


def test_two_instances_see_what_the_other_has_written(meta: MetaBackend, meta_factory: MetaFactory) -> None:
    with meta_factory.create() as other:
        stored = meta.store_meta("a", MessageMetadata("a"))
        assert stored == other.get_meta("a")

        moved = other.move_to_state("a", State.INCOMING, State.HOLD)
        assert moved == meta.get_meta("a")
        assert [[], [moved]] == [list(meta.iter_messages(state)) for state in (State.INCOMING, State.HOLD)]

        meta.delete_meta("a")
        assert 0 == other.list_messages(State.HOLD).total


def test_closing_one_instance_leaves_the_other_open(meta: MetaBackend, meta_factory: MetaFactory) -> None:
    meta_factory.create().close()

    assert 1 == meta.store_meta("a", MessageMetadata("a")).version


@pytest.mark.parametrize("call", CALLS)
def test_a_deadline_that_has_passed_stops_every_call_before_any_effect(meta: MetaBackend, call: str) -> None:
    stored = meta.store_meta("a", MessageMetadata("a"))

    with deadline(0), pytest.raises(DeadlineExceededError):
        CALLS[call](meta)

    assert [stored] == list(meta.iter_messages(State.INCOMING))


def test_within_a_deadline_calls_go_on(meta: MetaBackend) -> None:
    with deadline(60):
        meta.store_meta("a", MessageMetadata("a"))
        assert 1 == len(meta.claim([State.INCOMING], limit=1, lease=HOUR, owner="w"))


def test_closing_works_after_the_deadline(meta: MetaBackend) -> None:
    with deadline(0):
        meta.close()


def test_a_wait_ends_at_a_change(meta: MetaBackend, meta_factory: MetaFactory) -> None:
    with ThreadPoolExecutor(1) as pool, meta_factory.create() as other:
        waiting = pool.submit(meta.wait_for_change, 30)
        other.store_meta("a", MessageMetadata("a"))

        assert waiting.result(20)


def test_a_change_since_the_last_wait_is_not_missed(meta: MetaBackend) -> None:
    meta.wait_for_change(0)
    meta.store_meta("a", MessageMetadata("a"))

    assert meta.wait_for_change(30)


def test_a_wait_ends_with_the_deadline(meta: MetaBackend) -> None:
    def wait_on() -> None:
        while True:
            meta.wait_for_change(30)

    with deadline(0.01), pytest.raises(DeadlineExceededError):
        wait_on()


@pytest.mark.parametrize("timeout", [-1, 0, 0.001])
def test_a_wait_takes_no_longer_than_it_may(meta: MetaBackend, timeout: float) -> None:
    meta.wait_for_change(timeout)


def test_an_empty_store_is_found_healthy(meta: MetaBackend) -> None:
    assert ([] if meta.capabilities.durable else ["durability"]) == [each.subject for each in meta.check()]
