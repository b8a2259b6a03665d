from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import pytest
from queues import NewQueue, Recorder

from retryspool import (
    ZERO_TIME,
    FixedRetry,
    InvalidInputError,
    InvalidMessageIdError,
    InvalidMetadataError,
    InvalidOptionError,
    ListOptions,
    Message,
    MessageExistsError,
    MessageMetadata,
    MessageNotFoundError,
    Outgoing,
    Queue,
    SortBy,
    State,
    new_message_id,
)
from retryspool.queue.message import user_headers


@pytest.mark.parametrize(
    "payload",
    [b"hello", bytearray(b"hello"), io.BytesIO(b"hello"), [b"he", b"", b"llo"], iter([b"hello"])],
    ids=["bytes", "bytearray", "file", "list", "iterator"],
)
def test_a_payload_is_bytes_a_file_or_an_iterable(queue: Queue, payload: BinaryIO) -> None:
    stored = queue.enqueue(payload)

    with queue.open_payload(stored.id) as reader:
        assert b"hello" == reader.read()
    assert 5 == stored.size


def test_text_is_refused_before_anything_is_stored(queue: Queue) -> None:
    with pytest.raises(TypeError, match="encode the str"):
        queue.enqueue("hello")  # type: ignore[arg-type]

    assert 0 == queue.count(State.INCOMING)


def test_the_record_has_the_queues_defaults(new_queue: NewQueue) -> None:
    queue = new_queue(max_attempts=3, priority=7)

    stored = queue.enqueue(b"")

    assert (3, 7, "", "", ZERO_TIME, {}) == (
        stored.max_attempts,
        stored.priority,
        stored.retry_policy_name,
        stored.route,
        stored.next_retry,
        user_headers(stored.headers),
    )


def test_the_record_has_what_the_caller_says(new_queue: NewQueue) -> None:
    queue = new_queue(policies={"fast": FixedRetry(1)})
    due = datetime(2100, 1, 1, tzinfo=UTC)

    stored = queue.enqueue(
        b"",
        headers={"to": "x"},
        message_id="a",
        route="r",
        priority=0,
        not_before=due,
        max_attempts=1,
        retry_policy="fast",
    )

    assert stored == queue.get("a")
    assert ({"to": "x"}, "a", "r", 0, due, 1, "fast") == (
        user_headers(stored.headers),
        stored.id,
        stored.route,
        stored.priority,
        stored.next_retry,
        stored.max_attempts,
        stored.retry_policy_name,
    )


@pytest.mark.parametrize("delay", [timedelta(hours=2), 7200, 7200.0], ids=["timedelta", "int", "float"])
def test_a_message_may_be_due_later(queue: Queue, delay: timedelta | float) -> None:
    before = datetime.now(UTC)
    stored = queue.enqueue(b"", not_before=delay)

    assert before + timedelta(hours=2) <= stored.next_retry <= datetime.now(UTC) + timedelta(hours=2)
    assert State.INCOMING is stored.state


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"priority": 101}, InvalidOptionError),
        ({"priority": -1}, InvalidOptionError),
        ({"max_attempts": 0}, InvalidOptionError),
        ({"max_attempts": 1001}, InvalidOptionError),
        ({"retry_policy": "lost"}, InvalidOptionError),
        ({"headers": {"x-retry-policy": "lost"}}, InvalidOptionError),
        ({"headers": {"a": 1}}, InvalidMetadataError),
        ({"headers": {1: "a"}}, InvalidMetadataError),
        ({"message_id": "../x"}, InvalidMessageIdError),
        ({"message_id": ""}, InvalidMessageIdError),
        ({"not_before": datetime(2030, 1, 1)}, InvalidMetadataError),  # noqa: DTZ001 -- that is what's wrong with it
        ({"not_before": 1e12}, InvalidMetadataError),
        ({"not_before": float("nan")}, InvalidMetadataError),
        ({"if_exists": "replace"}, InvalidOptionError),
        ({"route": 5}, InvalidMetadataError),
    ],
    ids=[
        "priority-high",
        "priority-low",
        "attempts-few",
        "attempts-many",
        "policy",
        "policy-by-header",
        "header-value",
        "header-name",
        "id-path",
        "id-empty",
        "naive",
        "far",
        "nan",
        "if-exists",
        "route",
    ],
)
def test_what_cannot_be_is_refused_and_nothing_stored(
    queue: Queue, arguments: dict[str, object], error: type[InvalidInputError]
) -> None:
    with pytest.raises(error):
        queue.enqueue(b"x", **arguments)  # type: ignore[arg-type]
    with pytest.raises(error):
        queue.begin_enqueue(**arguments)  # type: ignore[arg-type]

    assert 0 == sum(queue.counts().values())
    assert [] == list(queue.spool.data.iter_data())


def test_an_id_is_an_idempotency_key(queue: Queue) -> None:
    first = queue.enqueue(b"first", message_id="a")

    with pytest.raises(MessageExistsError):
        queue.enqueue(b"second", message_id="a")
    again = queue.enqueue(b"third", message_id="a", if_exists="skip")

    assert first == again
    assert b"first" == queue.open_payload("a").read()
    assert 1 == queue.counters.snapshot()["accepted"]


def test_an_id_is_free_again_once_its_message_is_done(queue: Queue) -> None:
    queue.add_handler(recorder := Recorder())
    for body in (b"1", b"2"):
        queue.enqueue(body, message_id="a", if_exists="skip")
        queue.run(until_idle=True)

    assert [("a", b"1"), ("a", b"2")] == recorder.given


def test_a_policy_is_chosen_by_argument_before_header(new_queue: NewQueue) -> None:
    queue = new_queue(policies={"fast": FixedRetry(1), "slow": FixedRetry(1000)})
    headers = {"x-retry-policy": "slow"}

    assert "slow" == queue.enqueue(b"", headers=headers).retry_policy_name
    assert "fast" == queue.enqueue(b"", headers=headers, retry_policy="fast").retry_policy_name


def test_the_spools_own_headers_are_left_out(queue: Queue) -> None:
    stored = queue.enqueue(b"x", headers={"x-retryspool-encoding": "zstd", "to": "y"})

    assert {"to": "y"} == user_headers(stored.headers)
    assert b"x" == queue.open_payload(stored.id).read()


def test_a_streamed_message_is_not_there_before_its_block_ends(queue: Queue) -> None:
    with queue.begin_enqueue(headers={"to": "x"}) as tx:
        tx.write(b"hel")
        tx.headers["from"] = "y"
        assert 0 == queue.count(State.INCOMING)
        assert not tx.stored
        assert {"to": "x", "from": "y"} == tx.record.headers
        tx.write(b"lo")

    assert tx.stored
    assert tx.record == queue.get(tx.message_id)
    assert ({"to": "x", "from": "y"}, 5) == (user_headers(tx.record.headers), tx.record.size)
    assert b"hello" == queue.open_payload(tx.message_id).read()
    assert 1 == queue.counters.snapshot()["accepted"]


def test_an_exception_in_the_block_leaves_nothing(queue: Queue) -> None:
    with pytest.raises(ZeroDivisionError), queue.begin_enqueue() as tx:  # noqa: PT012 -- the block is what fails
        tx.write(b"x")
        raise ZeroDivisionError

    assert not tx.stored
    assert 0 == queue.count(State.INCOMING)
    assert [] == list(queue.spool.data.iter_data())
    with pytest.raises(ValueError, match="aborted"):
        tx.commit()


def test_headers_of_the_block_are_checked_at_its_end(queue: Queue) -> None:
    with pytest.raises(InvalidOptionError, match="'lost'"), queue.begin_enqueue() as tx:  # noqa: PT012 -- the block is what fails
        tx.write(b"x")
        tx.headers["x-retry-policy"] = "lost"

    assert 0 == queue.count(State.INCOMING)
    assert [] == list(queue.spool.data.iter_data())


def test_a_streamed_message_that_is_there_already_is_skipped(queue: Queue) -> None:
    first = queue.enqueue(b"first", message_id="a")

    with queue.begin_enqueue(message_id="a", if_exists="skip") as tx:
        assert 6 == tx.write(b"second")
        tx.headers["late"] = "1"

    assert first == tx.record
    assert b"first" == queue.open_payload("a").read()
    with pytest.raises(MessageExistsError):
        queue.begin_enqueue(message_id="a")


def test_a_message_that_comes_during_the_block_wins(queue: Queue) -> None:
    with pytest.raises(MessageExistsError), queue.begin_enqueue(message_id="a") as tx:  # noqa: PT012 -- the block is what fails
        tx.write(b"late")
        queue.enqueue(b"early", message_id="a")
    with queue.begin_enqueue(message_id="b", if_exists="skip") as skipped:
        early = queue.enqueue(b"early", message_id="b")

    assert early == skipped.record
    assert b"early" == queue.open_payload("a").read()
    assert b"early" == queue.open_payload("b").read()


def test_committing_twice_stores_once(queue: Queue) -> None:
    with queue.begin_enqueue() as tx:
        first = tx.commit()
        assert first == tx.commit()

    assert 1 == queue.count(State.INCOMING)
    assert 1 == queue.counters.snapshot()["accepted"]


def test_many_are_enqueued_with_a_result_each(queue: Queue) -> None:
    queue.enqueue(b"0", message_id="there")

    results = queue.enqueue_many(
        [
            Outgoing(payload=b"1"),
            Outgoing(payload=b"2", message_id="there"),
            Outgoing(payload=b"3", message_id="twice", headers={"n": "1"}),
            Outgoing(payload=b"4", message_id="twice"),
            Outgoing(payload=iter([b"5", b"5"]), priority=1, route="r"),
        ]
    )

    ok = [result for result in results if isinstance(result, MessageMetadata)]
    assert [True, False, True, False, True] == [isinstance(result, MessageMetadata) for result in results]
    assert [MessageExistsError] * 2 == [type(results[index]) for index in (1, 3)]
    assert [b"1", b"3", b"55"] == [queue.open_payload(record.id).read() for record in ok]
    assert ("twice", {"n": "1"}) == (ok[1].id, user_headers(ok[1].headers))
    assert (1, "r", 2) == (ok[2].priority, ok[2].route, ok[2].size)
    assert 4 == queue.counters.snapshot()["accepted"]


def test_many_more_than_a_batch_keep_their_order(new_queue: NewQueue) -> None:
    queue = new_queue(batch_size=7)

    results = queue.enqueue_many(Outgoing(payload=str(number).encode()) for number in range(50))

    records = [result for result in results if isinstance(result, MessageMetadata)]
    assert [str(number).encode() for number in range(50)] == [
        queue.open_payload(record.id).read() for record in records
    ]


def test_many_with_one_that_cannot_be_store_none(queue: Queue) -> None:
    with pytest.raises(InvalidOptionError):
        queue.enqueue_many([Outgoing(payload=b"1"), Outgoing(payload=b"2", priority=1000)])
    with pytest.raises(TypeError):
        queue.enqueue_many([Outgoing(payload=b"1"), Outgoing(payload="2")])  # type: ignore[arg-type]

    assert 0 == queue.count(State.INCOMING)


@pytest.mark.parametrize("message", [b"bytes", "text", 7, {"payload": b""}, None])
def test_many_take_only_messages(queue: Queue, message: object) -> None:
    with pytest.raises(TypeError, match=f"of type {type(message).__name__}; each must be an Outgoing"):
        queue.enqueue_many([Outgoing(payload=b"x"), message])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]

    assert {0} == set(queue.counts().values())


def test_many_that_are_there_already_are_skipped(queue: Queue) -> None:
    first = queue.enqueue(b"first", message_id="a")

    assert [first] == queue.enqueue_many([Outgoing(payload=b"x", message_id="a")], if_exists="skip")


def test_none_at_all_are_enqueued(queue: Queue) -> None:
    assert [] == queue.enqueue_many([])


def test_what_is_there_is_listed_and_counted(queue: Queue) -> None:
    ids = [queue.enqueue(b"", message_id=f"m{number}", priority=9 - number).id for number in range(5)]
    queue.enqueue(b"", message_id="held")
    queue.hold("held")

    assert 5 == queue.count(State.INCOMING)
    assert {State.INCOMING: 5, State.HOLD: 1} == {state: count for state, count in queue.counts().items() if count}
    assert set(ids) == {record.id for record in queue.iter(State.INCOMING)}
    assert tuple(ids[:2]) == queue.list(State.INCOMING, limit=2).message_ids
    assert tuple(reversed(ids)) == queue.list(State.INCOMING, ListOptions(sort_by=SortBy.PRIORITY)).message_ids
    assert tuple(ids[3:]) == queue.list(State.INCOMING, offset=3).message_ids
    with pytest.raises(MessageNotFoundError):
        queue.get("nobody")
    with pytest.raises(MessageNotFoundError):
        queue.open_payload("nobody")


def test_the_oldest_due_is_told(queue: Queue) -> None:
    due = datetime(2100, 1, 1, tzinfo=UTC)
    assert queue.oldest_due(State.INCOMING) is None

    queue.enqueue(b"", not_before=due + timedelta(days=1))
    queue.enqueue(b"", not_before=due)

    assert due == queue.oldest_due(State.INCOMING)


def test_a_message_enqueued_by_a_handler_has_an_id_of_its_own(queue: Queue) -> None:
    seen: list[str] = []

    @queue.handler
    def deliver(message: Message, _payload: BinaryIO) -> None:
        seen.append(message.id)
        if message.id == "first":
            queue.enqueue(b"notice")
            with pytest.raises(MessageExistsError):
                queue.enqueue(b"itself", message_id=message.id)

    queue.enqueue(b"", message_id="first")
    queue.run(until_idle=True)

    assert 2 == len(set(seen))
    assert len(new_message_id()) == len(seen[1])
