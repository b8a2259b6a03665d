"""A message that is enqueued in a transaction of the caller's is there if and only if that was committed."""

from __future__ import annotations

import itertools
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from spools import payloads
from sqlite_meta import SqliteMetaFactory

from retryspool import (
    BackendError,
    BackendUnavailableError,
    MessageExistsError,
    MessageMetadata,
    MessageNotFoundError,
    NotSupportedError,
    Spool,
    State,
)
from retryspool.conformance.finishing import Running, finish
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.spool import DiscrepancyKind, enqueue

A = MessageMetadata("a")
NOW = timedelta(0)
A_S_WINDOW = zlib.crc32(b"a") % 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database, of the caller's own table and of the records."""
    path = tmp_path / "business.db"
    SqliteMetaFactory(path).create().close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE orders (number INTEGER)")
    return path


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with Spool(SqliteMetaFactory(path).create(), MemoryData()) as opened:
        yield opened


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    """The caller's connection."""
    with closing(sqlite3.connect(path, timeout=0.1)) as db:
        yield db


def order(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO orders VALUES (1)")


def orders(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        ((count,),) = db.execute("SELECT count(*) FROM orders").fetchall()
    return int(count)


def ids(spool: Spool) -> list[str]:
    return [record.id for state in State for record in spool.meta.iter_messages(state)]


def read(spool: Spool, message_id: str) -> bytes:
    with spool.open_payload(spool.get(message_id)) as payload:
        return payload.read()


# -- its end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_new", [True, False])
def test_a_message_is_there_once_the_caller_commits(
    spool: Spool, db: sqlite3.Connection, path: Path, *, is_new: bool
) -> None:
    order(db)
    stored = spool.enqueue(A, b"hello", is_new=is_new, transaction=db)
    assert (5, 1) == (stored.size, stored.version)
    assert ([], 0, ["a"]) == (ids(spool), orders(path), payloads(spool))
    with pytest.raises(MessageNotFoundError):
        spool.get("a")

    db.commit()

    assert (["a"], 1, b"hello") == (ids(spool), orders(path), read(spool, "a"))
    assert stored == spool.get("a")


def test_a_message_is_not_there_if_the_caller_rolls_back(spool: Spool, db: sqlite3.Connection, path: Path) -> None:
    order(db)
    spool.enqueue(A, b"hello", transaction=db)

    db.rollback()

    assert ([], 0) == (ids(spool), orders(path))
    (found,) = spool.reconcile(grace=NOW)
    assert (DiscrepancyKind.ORPHAN_PAYLOAD, "a", True) == (found.kind, found.message_id, found.removed)
    assert [] == payloads(spool)


def test_the_payload_of_an_open_transaction_is_nobody_s_orphan(spool: Spool, db: sqlite3.Connection) -> None:
    spool.enqueue(A, b"hello", transaction=db)

    assert [] == list(spool.reconcile(grace=NOW))
    db.commit()
    assert [] == list(spool.reconcile(grace=NOW))
    assert b"hello" == read(spool, "a")


def test_what_was_rolled_back_can_be_enqueued_again(spool: Spool, db: sqlite3.Connection, path: Path) -> None:
    spool.enqueue(A, b"first", transaction=db)
    db.rollback()

    order(db)  # by now it's this transaction that keeps others from writing
    spool.enqueue(A, b"second", transaction=db)
    db.commit()

    assert (b"second", 1) == (read(spool, "a"), orders(path))


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_duplicate_is_refused_and_the_transaction_goes_on(spool: Spool, db: sqlite3.Connection, path: Path) -> None:
    first = spool.enqueue(A, b"first")
    order(db)

    with pytest.raises(MessageExistsError):
        spool.enqueue(A, b"second", transaction=db)
    spool.enqueue(MessageMetadata("b"), b"another", transaction=db)
    db.commit()

    assert (first, b"first", b"another", 1) == (spool.get("a"), read(spool, "a"), read(spool, "b"), orders(path))


def test_the_second_of_an_id_in_one_transaction_is_a_duplicate(spool: Spool, db: sqlite3.Connection) -> None:
    spool.enqueue(A, b"first", transaction=db)

    with pytest.raises(MessageExistsError):
        spool.enqueue(A, b"second", transaction=db)
    assert 1 == spool.get("a", transaction=db).version
    db.commit()

    assert b"first" == read(spool, "a")


@pytest.mark.parametrize("commits", [True, False])
def test_who_enqueues_the_id_of_an_open_transaction_waits_for_its_end(
    spool: Spool, db: sqlite3.Connection, *, commits: bool
) -> None:
    spool.enqueue(A, b"first", transaction=db)
    other = Running(lambda: spool.enqueue(A, b"second"))
    another = Running(lambda: spool.begin(A).abort())
    with pytest.raises(AssertionError, match="hasn't come to an end"):
        other.result(1)  # longer than a record follows its payload where there's no transaction
    assert (False, ["a"]) == (another.is_over, payloads(spool))

    if commits:
        db.commit()
        with pytest.raises(MessageExistsError):
            other.result()
        assert b"first" == read(spool, "a")
    else:
        db.rollback()
        assert 1 == other.result().version
        assert b"second" == read(spool, "a")


def test_who_waits_for_a_transaction_that_does_not_end_gives_up_and_harms_nothing(
    spool: Spool, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "_TRANSACTION_ENDS_S", 0.7)
    spool.enqueue(A, b"first", transaction=db)

    with pytest.raises(BackendUnavailableError, match="still open") as caught:
        finish(lambda: spool.enqueue(A, b"second"))
    assert "none" == caught.value.outcome
    db.commit()

    assert b"first" == read(spool, "a")


def test_who_has_a_transaction_waits_for_no_lock_of_those_who_wait_for_it(spool: Spool, db: sqlite3.Connection) -> None:
    order(db)
    other = next(f"m{number}" for number in itertools.count() if zlib.crc32(f"m{number}".encode()) % 64 == A_S_WINDOW)
    waiting = Running(lambda: spool.enqueue(MessageMetadata(other), b"holds the window, and waits for the database"))
    with pytest.raises(AssertionError, match="hasn't come to an end"):
        waiting.result(0.5)

    spool.enqueue(A, b"hello", transaction=db)
    db.commit()

    waiting.result()
    assert ["a", other] == sorted(ids(spool))


@pytest.mark.parametrize("what", ["memory", "no connection", "another database", "in memory", "autocommit", "closed"])
def test_a_transaction_that_cannot_be_joined_is_refused_before_anything_is_stored(
    spool: Spool, tmp_path: Path, what: str
) -> None:
    transactions: dict[str, object] = {
        "no connection": "BEGIN",
        "another database": sqlite3.connect(tmp_path / "another.db"),
        "in memory": sqlite3.connect(":memory:"),
        "autocommit": sqlite3.connect(tmp_path / "business.db", isolation_level=None),
    }
    if what == "memory":
        spool = Spool(MemoryMeta(), MemoryData())
    error: type[Exception] = NotSupportedError
    if what == "closed":
        transactions["closed"] = closed = sqlite3.connect(tmp_path / "business.db")
        closed.close()
        error = BackendError

    try:
        with pytest.raises(error):
            spool.enqueue(A, b"hello", transaction=transactions.get(what, "x"))
        with pytest.raises(error):
            spool.begin(A, transaction=transactions.get(what, "x"))
        with pytest.raises(error):
            spool.enqueue_many([(A, b"hello")], transaction=transactions.get(what, "x"))
    finally:
        for each in transactions.values():
            if isinstance(each, sqlite3.Connection):
                each.close()

    assert ([], []) == (ids(spool), payloads(spool))


# -- other ways in -----------------------------------------------------------------------------------------------------


def test_a_payload_in_pieces_goes_with_the_transaction(spool: Spool, db: sqlite3.Connection) -> None:
    with spool.begin(A, transaction=db) as message:
        message.payload.write(b"one ")
        message.payload.write(b"two")
    assert [] == ids(spool)

    db.commit()

    assert b"one two" == read(spool, "a")


@pytest.mark.parametrize("is_new", [True, False])
def test_many_messages_go_with_the_transaction(spool: Spool, db: sqlite3.Connection, *, is_new: bool) -> None:
    spool.enqueue(MessageMetadata("b"), b"there")
    messages = [(MessageMetadata(each), each.encode()) for each in "abc"]

    results = spool.enqueue_many(messages, is_new=is_new, transaction=db)
    assert ["b"] == ids(spool)
    db.commit()

    assert ["a", "c"] == [each.id for each in results if isinstance(each, MessageMetadata)]
    assert [b"a", b"there", b"c"] == [read(spool, each) for each in "abc"]


def test_a_connection_in_autocommit_joins_once_it_has_begun(spool: Spool, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        spool.enqueue(A, b"hello", transaction=db)
        db.execute("ROLLBACK")
        db.execute("BEGIN")
        spool.enqueue(MessageMetadata("b"), b"hello", transaction=db)
        db.execute("COMMIT")

    assert ["b"] == ids(spool)


def test_the_callers_connection_is_left_open(spool: Spool, db: sqlite3.Connection, path: Path) -> None:
    spool.enqueue(A, b"hello", transaction=db)
    spool.close()

    order(db)
    db.commit()
    assert 1 == orders(path)
