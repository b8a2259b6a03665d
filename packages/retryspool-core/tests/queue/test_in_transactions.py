"""Enqueueing in the caller's own transaction: what is handled is what was committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

import pytest
from sqlite_meta import SqliteMetaFactory

from retryspool import Message, MessageMetadata, NotSupportedError, Outgoing, Queue, Spool, State
from retryspool.conformance.finishing import eventually
from retryspool.memory import MemoryData, MemoryMeta


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with Queue(Spool(SqliteMetaFactory(tmp_path / "business.db").create(), MemoryData())) as queue:
        yield queue


@pytest.fixture
def db(tmp_path: Path, queue: Queue) -> Iterator[sqlite3.Connection]:  # noqa: ARG001 -- which makes the database
    with closing(sqlite3.connect(tmp_path / "business.db")) as db:
        yield db


def test_workers_get_what_was_committed_and_nothing_else(queue: Queue, db: sqlite3.Connection) -> None:
    handled: list[tuple[str, bytes]] = []

    @queue.handler
    def handle(message: Message, payload: BinaryIO) -> None:
        handled.append((message.id, payload.read()))

    queue.start()
    queue.enqueue(b"never", message_id="never", transaction=db)
    db.rollback()
    queue.enqueue(b"order 7", message_id="order-7", transaction=db)
    queue.enqueue_many(
        [Outgoing(payload=b"order 8", message_id="order-8"), Outgoing(payload=b"order 9")], transaction=db
    )
    assert [] == handled

    db.commit()

    eventually(lambda: len(handled) == 3)
    assert {b"order 7", b"order 8", b"order 9"} == {payload for _, payload in handled}


def test_a_payload_that_is_written_piece_by_piece_is_a_message_when_the_transaction_commits(
    queue: Queue, db: sqlite3.Connection
) -> None:
    db.execute("CREATE TABLE orders (id)")
    db.execute("INSERT INTO orders VALUES (1)")  # the transaction is open by now
    for message_id in ("kept", "dropped"):
        with suppress(ValueError), queue.begin_enqueue(message_id=message_id, transaction=db) as message:
            message.write(b"hello ")
            message.write(b"there")
            if message_id == "dropped":
                raise ValueError("changed my mind")

    assert 0 == queue.count(State.INCOMING)
    db.commit()

    assert ["kept"] == [record.id for record in queue.iter(State.INCOMING)]
    with queue.open_payload("kept") as payload:
        assert b"hello there" == payload.read()
    with queue.begin_enqueue(message_id="kept", if_exists="skip", transaction=db) as again:
        again.write(b"another")
    assert queue.get("kept") == again.record


def test_what_another_enqueue_of_the_transaction_has_stored_meanwhile_is_skipped_too(
    queue: Queue, db: sqlite3.Connection
) -> None:
    with queue.begin_enqueue(message_id="a", if_exists="skip", transaction=db) as late:
        late.write(b"late")
        first = queue.enqueue(b"first", message_id="a", transaction=db)
    db.commit()

    assert first == late.record == queue.get("a")
    with queue.open_payload("a") as payload:
        assert b"first" == payload.read()


class Asynchronous:
    """As the connections of asyncpg, psycopg and aiosqlite for coroutines."""

    async def commit(self) -> None:
        raise NotImplementedError


def test_an_asynchronous_connection_is_refused_with_what_to_do_instead(queue: Queue) -> None:
    with pytest.raises(NotSupportedError, match=r"Asynchronous is an asynchronous connection.*asyncio\.to_thread"):
        queue.enqueue(b"x", transaction=Asynchronous())

    assert [] == list(queue.spool.data.iter_data())


def test_what_is_there_already_is_skipped_as_the_transaction_sees_it(queue: Queue, db: sqlite3.Connection) -> None:
    first = queue.enqueue(b"first", message_id="a", transaction=db)

    again = queue.enqueue(b"second", message_id="a", if_exists="skip", transaction=db)
    (once_more,) = queue.enqueue_many([Outgoing(payload=b"third", message_id="a")], if_exists="skip", transaction=db)
    db.commit()

    assert first == again == once_more == queue.get("a")
    with queue.open_payload("a") as payload:
        assert b"first" == payload.read()


def test_where_there_are_no_transactions_to_join_nothing_is_stored(db: sqlite3.Connection) -> None:
    data = MemoryData()
    with Queue(Spool(MemoryMeta(), data)) as queue:
        with pytest.raises(NotSupportedError, match="MemoryMeta can't write within a transaction"):
            queue.enqueue(b"x", transaction=db)
        with pytest.raises(NotSupportedError):
            queue.enqueue_many([Outgoing(payload=b"x")], transaction=db)
        with pytest.raises(NotSupportedError):
            queue.begin_enqueue(transaction=db)

        assert [] == list(data.iter_data())
        assert 0 == queue.count(State.INCOMING)


def test_a_record_is_returned_as_it_will_be(queue: Queue, db: sqlite3.Connection) -> None:
    stored = queue.enqueue(b"hello", headers={"k": "v"}, priority=1, route="r", transaction=db)
    assert isinstance(stored, MessageMetadata)
    db.commit()

    assert stored == queue.get(stored.id)
