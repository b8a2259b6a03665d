"""Processes that are killed between a message's payload and the commit of the transaction that it's part of."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from transaction_works import enqueue, enqueue_and_commit, enqueue_only, open_spool

from retryspool import State
from retryspool.conformance.children import children


@pytest.mark.parametrize("commits", [True, False])
def test_a_kill_leaves_message_and_transaction_both_or_neither(tmp_path: Path, *, commits: bool) -> None:
    open_spool(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "business.db")) as db:
        db.execute("CREATE TABLE orders (number INTEGER)")
    with children(1) as (child,):
        assert "now" == child.call(enqueue_and_commit if commits else enqueue_only, tmp_path, b"hello")
        child.kill()

    with open_spool(tmp_path) as spool, closing(sqlite3.connect(tmp_path / "business.db")) as db:
        ((orders,),) = db.execute("SELECT count(*) FROM orders").fetchall()
        found = [record.id for record in spool.meta.iter_messages(State.INCOMING)]
        assert ((["a"], 1) if commits else ([], 0)) == (found, orders)
        swept = [each.message_id for each in spool.reconcile(grace=timedelta(0))]
        assert ([] if commits else ["a"]) == swept
        if commits:
            with spool.open_payload(spool.get("a")) as payload:
                assert b"hello" == payload.read()


def test_the_id_of_a_transaction_whose_process_was_killed_can_be_used_again(tmp_path: Path) -> None:
    open_spool(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "business.db")) as db:
        db.execute("CREATE TABLE orders (number INTEGER)")
    with children(2) as (victim, other):
        assert "now" == victim.call(enqueue_only, tmp_path, b"first")
        other.begin(enqueue, tmp_path, b"second")
        victim.kill()
        assert 1 == other.line()

    with open_spool(tmp_path) as spool, spool.open_payload(spool.get("a")) as payload:
        assert b"second" == payload.read()
