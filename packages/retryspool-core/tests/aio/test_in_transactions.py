"""Coroutines that enqueue in a transaction of the caller's own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_meta import SqliteMetaFactory

from retryspool import BackendError, NotSupportedError, Outgoing, Spool, State, aio
from retryspool.memory import MemoryData


def opened(path: Path) -> aio.Queue:
    return aio.Queue(Spool(SqliteMetaFactory(path).create(), MemoryData()))


async def chunks() -> AsyncIterator[bytes]:
    yield b"in "
    yield b"pieces"


def test_all_that_a_coroutine_enqueues_is_there_when_the_caller_commits(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "business.db"
        async with opened(path) as queue:
            with closing(sqlite3.connect(path, check_same_thread=False)) as db:
                for end in (db.rollback, db.commit):
                    await queue.enqueue(b"whole", message_id="whole", transaction=db)
                    await queue.enqueue(chunks(), message_id="in-pieces", transaction=db)
                    async with queue.begin_enqueue(message_id="written", transaction=db) as message:
                        await message.write(b"by hand")
                    await queue.enqueue_many([Outgoing(payload=b"many", message_id="many")], transaction=db)
                    before = await queue.count(State.INCOMING)
                    end()

            assert 0 == before
            payloads: dict[str, bytes] = {}
            async for record in queue.iter(State.INCOMING):
                async with await queue.open_payload(record.id) as payload:
                    payloads[record.id] = await payload.read()
            assert {"whole": b"whole", "in-pieces": b"in pieces", "written": b"by hand", "many": b"many"} == payloads

    asyncio.run(main())


def test_a_connection_that_stays_in_its_thread_is_used_in_one_with_the_synchronous_queue(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "business.db"
        async with opened(path) as queue:

            def place_an_order() -> None:
                with closing(sqlite3.connect(path)) as db, db:
                    queue.sync.enqueue(b"order", transaction=db)

            with closing(sqlite3.connect(path)) as here, pytest.raises(BackendError, match="same thread"):
                await queue.enqueue(b"never", transaction=here)
            assert [] == list(queue.spool.data.iter_data())

            await asyncio.to_thread(place_an_order)

            assert 1 == await queue.count(State.INCOMING)

    asyncio.run(main())


def test_an_asynchronous_connection_is_refused(tmp_path: Path) -> None:
    class Connection:
        async def execute(self, query: str) -> None:
            raise NotImplementedError(query)

    async def main() -> None:
        async with opened(tmp_path / "business.db") as queue:
            for payload in (b"x", chunks()):
                with pytest.raises(NotSupportedError, match="Connection is an asynchronous connection"):
                    await queue.enqueue(payload, transaction=Connection())
            with pytest.raises(NotSupportedError, match="Connection is an asynchronous connection"):
                await queue.enqueue_many([Outgoing(payload=b"x")], transaction=Connection())
            assert [] == list(queue.spool.data.iter_data())

    asyncio.run(main())
