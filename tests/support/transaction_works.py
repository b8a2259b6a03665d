"""What processes do that have a transaction open on the database that holds the records."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from sqlite_meta import SqliteMetaFactory

from retryspool import MessageMetadata, Spool
from retryspool.conformance.children import say
from retryspool_fs_data import FsDataFactory

A = MessageMetadata("a")


def open_spool(folder: Path) -> Spool:
    return Spool(SqliteMetaFactory(folder / "business.db").create(), FsDataFactory(folder / "data").create())


def enqueue_and_stay(folder: Path, payload: bytes, *, commits: bool) -> None:
    """Enqueue a message in a transaction, and stay in it, or right behind it, until killed."""
    with open_spool(folder) as spool, closing(sqlite3.connect(folder / "business.db")) as db:
        db.execute("INSERT INTO orders VALUES (1)")
        spool.enqueue(A, payload, transaction=db)
        if commits:
            db.commit()
        say("now")
        threading.Event().wait()


def enqueue(folder: Path, payload: bytes) -> int:
    with open_spool(folder) as spool:
        return spool.enqueue(A, payload).version


def enqueue_and_commit(folder: Path, payload: bytes) -> None:
    enqueue_and_stay(folder, payload, commits=True)


def enqueue_only(folder: Path, payload: bytes) -> None:
    enqueue_and_stay(folder, payload, commits=False)
