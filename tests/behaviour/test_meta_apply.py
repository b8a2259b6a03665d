"""apply: a batch of writes, each as its single method would carry it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from racing import race

from retryspool.errors import (
    InvalidInputError,
    MessageExistsError,
    MessageNotFoundError,
    StateConflictError,
)
from retryspool.meta import Delete, MetaBackend, Move, Store, Update, Write, WriteResult
from retryspool.model import MessageMetadata, State


def everything(meta: MetaBackend) -> dict[str, MessageMetadata]:
    return {record.id: record for state in State for record in meta.iter_messages(state)}


def kinds(results: Sequence[WriteResult]) -> list[type]:
    return [type(result) for result in results]


def test_an_empty_batch_does_nothing(meta: MetaBackend) -> None:
    assert [] == meta.apply([])


def test_each_write_of_a_batch_has_its_result(meta: MetaBackend) -> None:
    for message_id in "abcd":
        meta.store_meta(message_id, MessageMetadata(message_id))

    results = meta.apply(
        [
            Store(MessageMetadata("new", size=1)),
            Update(MessageMetadata("a", state=State.DEFERRED)),
            Move("b", State.INCOMING, State.HOLD),
            Delete("c"),
            Delete("d", if_version=1),
        ]
    )

    assert [MessageMetadata, MessageMetadata, MessageMetadata, type(None), type(None)] == kinds(results)
    assert {"new": results[0], "a": results[1], "b": results[2]} == everything(meta)


def test_what_fails_in_a_batch_stops_nothing_else(meta: MetaBackend) -> None:
    for message_id in "abcd":
        meta.store_meta(message_id, MessageMetadata(message_id))

    results = meta.apply(
        [
            Store(MessageMetadata("a")),
            Update(MessageMetadata("x")),
            Update(MessageMetadata("b"), if_version=9),
            Update(MessageMetadata("b", size=2), if_version=1),
            Move("x", State.INCOMING, State.HOLD),
            Move("c", State.HOLD, State.INCOMING),
            Delete("x"),
            Delete("d", if_version=2),
            Delete("d"),
        ]
    )

    expected: list[type] = [MessageExistsError, MessageNotFoundError, StateConflictError, MessageMetadata]
    expected += [MessageNotFoundError, StateConflictError, MessageNotFoundError, StateConflictError, type(None)]
    assert expected == kinds(results)
    assert {"a": 1, "b": 2, "c": 1} == {message_id: record.version for message_id, record in everything(meta).items()}


def test_the_writes_of_one_message_take_effect_in_order(meta: MetaBackend) -> None:
    results = meta.apply(
        [
            Delete("a"),
            Store(MessageMetadata("a")),
            Store(MessageMetadata("a")),
            Update(MessageMetadata("a", size=1), if_version=1),
            Update(MessageMetadata("a", size=2), if_version=1),
            Move("a", State.INCOMING, State.HOLD),
            Move("a", State.INCOMING, State.HOLD),
            Delete("a", if_version=3),
            Move("a", State.HOLD, State.INCOMING),
            Store(MessageMetadata("a", size=7)),
        ]
    )

    expected: list[type] = [MessageNotFoundError, MessageMetadata, MessageExistsError, MessageMetadata]
    expected += [StateConflictError, MessageMetadata, StateConflictError, type(None), MessageNotFoundError]
    expected += [MessageMetadata]
    assert expected == kinds(results)
    assert {"a": results[-1]} == everything(meta)
    assert (1, 7) == (meta.get_meta("a").version, meta.get_meta("a").size)


def test_a_move_to_the_same_state_in_a_batch_writes_nothing(meta: MetaBackend) -> None:
    stored = meta.store_meta("a", MessageMetadata("a"))

    assert [stored] == meta.apply([Move("a", State.INCOMING, State.INCOMING)])
    assert stored == meta.get_meta("a")


@pytest.mark.parametrize(
    "invalid",
    [
        Store(MessageMetadata("../x")),
        Store(MessageMetadata("x", attempts=-1)),
        Update(MessageMetadata("..")),
        Update(MessageMetadata("x", last_error="\0")),
        Move("", State.INCOMING, State.HOLD),
        Delete("a/b"),
    ],
    ids=["store id", "store record", "update id", "update record", "move", "delete"],
)
def test_what_could_never_be_carried_out_stops_the_batch_before_it_begins(meta: MetaBackend, invalid: Write) -> None:
    stored = meta.store_meta("a", MessageMetadata("a"))

    with pytest.raises(InvalidInputError):
        meta.apply([Delete("a"), invalid, Store(MessageMetadata("b"))])

    assert {"a": stored} == everything(meta)


def test_a_large_batch_is_done_whole(meta: MetaBackend) -> None:
    ids = [f"m{number}" for number in range(300)]

    stored = meta.apply([Store(MessageMetadata(message_id)) for message_id in ids])
    results = meta.apply([Delete(message_id, if_version=1) for message_id in ids])

    assert ids == [record.id for record in stored if isinstance(record, MessageMetadata)]
    assert [None] * 300 == results
    assert {} == everything(meta)


def test_batches_that_race_have_one_winner_for_each_write(meta: MetaBackend) -> None:
    stored = [meta.store_meta(f"m{number}", MessageMetadata(f"m{number}")) for number in range(20)]

    def settle(racer: int) -> list[WriteResult]:
        ordered = stored if racer % 2 else stored[::-1]
        return meta.apply([Update(replace(record, size=racer), if_version=1) for record in ordered])

    results = race(8, settle)

    won = [record for result in results if isinstance(result, list) for record in result]
    winners = {record.id: record for record in won if isinstance(record, MessageMetadata)}
    assert 8 * 20 == len(won)
    assert 20 == sum(isinstance(record, MessageMetadata) for record in won)
    assert winners == everything(meta)
