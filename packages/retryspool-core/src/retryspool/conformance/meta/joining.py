"""Writes within a transaction of the caller's, of the backends that can join one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from retryspool.conformance.finishing import Running, eventually
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import claim, fill, ids, populated, record_of, store
from retryspool.conformance.meta_suite import MetaSuite
from retryspool.conformance.stores import Stores
from retryspool.conformance.suite import Transaction, needs
from retryspool.errors import (
    MessageExistsError,
    MessageNotFoundError,
    NotSupportedError,
    StateConflictError,
)
from retryspool.meta import Delete, JoinsTransactions, MetaBackend, MetaFactory, Move, Store, Update
from retryspool.model import MessageMetadata, State

__all__ = ["JoiningTests"]

_LONG_S = 60.0


def _joins(meta: MetaBackend) -> JoinsTransactions:
    if not isinstance(meta, JoinsTransactions):
        pytest.skip("the backend joins no transactions, which is optional")
    return meta


class JoiningTests(MetaSuite):
    @pytest.fixture
    def transaction(
        self, stores: Stores[MetaFactory, MetaBackend], meta: MetaBackend, meta_factory: MetaFactory
    ) -> Iterator[Transaction]:
        """A transaction of the caller's, begun."""
        _joins(meta)
        needs(self, "begin_transaction")
        begun = self.begin_transaction(stores.namespace_of(meta_factory))
        yield begun
        begun.rollback()

    @clause("META-66")
    def test_a_backend_has_both_methods_of_transactions_or_neither(self, meta: MetaBackend) -> None:
        has = [callable(getattr(meta, name, None)) for name in ("joining", "is_pending")]

        assert has in ([True, True], [False, False])

    @clause("META-66")
    def test_what_is_joined_takes_effect_with_the_commit(self, meta: MetaBackend, transaction: Transaction) -> None:
        fill(meta, ["updated", "moved", "deleted"])
        before = populated(meta)

        expected = _change_all(_joins(meta).joining(transaction))
        assert before == populated(meta)
        with pytest.raises(MessageNotFoundError):
            meta.get_meta("stored")
        transaction.commit()

        assert expected == {each: meta.get_meta(each) for each in expected}
        assert sorted(expected) == sorted(each for names in populated(meta).values() for each in names)

    @clause("META-66")
    def test_what_is_joined_is_as_it_was_after_a_rollback(self, meta: MetaBackend, transaction: Transaction) -> None:
        stored = {each.id: each for each in fill(meta, ["updated", "moved", "deleted"])}
        before = populated(meta)

        _change_all(_joins(meta).joining(transaction))
        transaction.rollback()

        assert before == populated(meta)
        assert stored == {each: meta.get_meta(each) for each in stored}

    @clause("META-66")
    def test_a_transaction_sees_what_it_has_written(self, meta: MetaBackend, transaction: Transaction) -> None:
        joined = _joins(meta).joining(transaction)

        stored = store(joined, "a")

        assert stored == joined.get_meta("a") == _joins(meta).joining(transaction).get_meta("a")
        assert {State.INCOMING: ["a"]} == populated(joined)
        assert {} == populated(meta)
        assert isinstance(joined, JoinsTransactions)

    @clause("META-66")
    def test_what_is_refused_leaves_the_transaction_fit_to_go_on(
        self, meta: MetaBackend, transaction: Transaction
    ) -> None:
        store(meta, "there")
        joined = _joins(meta).joining(transaction)
        store(joined, "first")

        with pytest.raises(MessageExistsError):
            store(joined, "there")
        with pytest.raises(MessageExistsError):
            store(joined, "first")
        with pytest.raises(MessageNotFoundError):
            joined.delete_meta("missing")
        with pytest.raises(StateConflictError):
            joined.update_meta("there", MessageMetadata("there"), if_version=7)
        refused = joined.apply([Store(MessageMetadata("there")), Store(MessageMetadata("second"))])
        assert [MessageExistsError, MessageMetadata] == [type(each) for each in refused]
        store(joined, "third")
        transaction.commit()

        assert {State.INCOMING: ["first", "second", "there", "third"]} == populated(meta)

    @clause("META-66")
    def test_nobody_claims_what_is_not_committed(self, meta: MetaBackend, transaction: Transaction) -> None:
        store(_joins(meta).joining(transaction), "a")
        assert {} == populated(meta)

        transaction.commit()

        assert ["a"] == eventually(lambda: ids(claim(meta)))

    @clause("META-66")
    def test_closing_the_joined_store_closes_nothing(self, meta: MetaBackend, transaction: Transaction) -> None:
        joined = _joins(meta).joining(transaction)
        store(joined, "a")

        joined.close()
        store(_joins(meta).joining(transaction), "b")
        transaction.commit()

        assert {State.INCOMING: ["a", "b"]} == populated(meta)

    @clause("META-66")
    def test_what_is_no_transaction_is_refused(self, meta: MetaBackend) -> None:
        joins = _joins(meta)

        for wrong in (object(), "BEGIN", None, meta):
            with pytest.raises(NotSupportedError):
                joins.joining(wrong)

    @clause("META-66", level=Level.CONCURRENT)
    def test_a_commit_ends_the_waiting_of_others(self, meta: MetaBackend, transaction: Transaction) -> None:
        def work() -> list[str]:
            while not (claimed := ids(claim(meta))):
                meta.wait_for_change(_LONG_S)
            return claimed

        store(_joins(meta).joining(transaction), "a")
        working = Running(work)
        with pytest.raises(AssertionError, match="hasn't come to an end"):
            working.result(0.3)

        transaction.commit()

        assert ["a"] == working.result()

    # -- whose payload it may be ---------------------------------------------------------------------------------------

    @clause("META-67")
    def test_an_open_transaction_is_told_from_one_that_has_ended(
        self, stores: Stores[MetaFactory, MetaBackend], meta: MetaBackend, meta_factory: MetaFactory
    ) -> None:
        joins = _joins(meta)
        needs(self, "begin_transaction")
        for end in ("commit", "rollback"):
            assert not joins.is_pending(end)
            transaction = self.begin_transaction(stores.namespace_of(meta_factory))
            joined = joins.joining(transaction)
            store(joined, end)

            assert joins.is_pending(end)
            assert not _joins(joined).is_pending(end)  # it's another's that is asked for
            (transaction.commit if end == "commit" else transaction.rollback)()
            assert not joins.is_pending(end)

        assert {State.INCOMING: ["commit"]} == populated(meta)

    @pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
    @clause("META-67", level=Level.CONCURRENT)
    def test_of_two_that_store_one_id_one_succeeds_when_the_transaction_has_ended(
        self, meta: MetaBackend, transaction: Transaction, *, commits: bool
    ) -> None:
        store(_joins(meta).joining(transaction), "a", size=1)

        other = Running(lambda: store(meta, "a", size=2))
        with pytest.raises(AssertionError, match="hasn't come to an end"):
            other.result(0.3)
        (transaction.commit if commits else transaction.rollback)()

        if commits:
            with pytest.raises(MessageExistsError):
                other.result()
        else:
            other.result()
        assert (1 if commits else 2) == meta.get_meta("a").size


def _change_all(joined: MetaBackend) -> dict[str, MessageMetadata]:
    """Make each kind of change; return what is there if they are committed."""
    changed = [
        store(joined, "stored", headers={"k": "v"}),
        joined.update_meta("updated", MessageMetadata("updated", State.DEFERRED), if_version=1),
        joined.move_to_state("moved", State.INCOMING, State.HOLD),
    ]
    joined.delete_meta("deleted")
    more = joined.apply(
        [
            Store(MessageMetadata("batch")),
            Update(MessageMetadata("updated", size=3), if_version=2),
            Move("moved", State.HOLD, State.BOUNCE),
            Store(MessageMetadata("gone")),
            Delete("gone"),
        ]
    )
    changed += [record_of(each) for each in more[:4]]
    found = {record.id: record for record in changed}
    del found["gone"]
    return found
