"""How a message gets in: the order of the writes, and what a failure between them leaves."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from spools import FaultyData, FaultyMeta, Killed, Steps, away, payloads

from retryspool import (
    BackendError,
    BackendUnavailableError,
    InvalidMetadataError,
    MessageExistsError,
    MessageMetadata,
    MessageNotFoundError,
    Spool,
    State,
    StorageError,
)
from retryspool.conformance.racing import race

A = MessageMetadata(id="a")


def read(spool: Spool, message_id: str) -> bytes:
    with spool.open_payload(spool.get(message_id)) as reader:
        return reader.read()


def has_record(spool: Spool, message_id: str) -> bool:
    try:
        spool.get(message_id)
    except MessageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("is_new", [True, False])
def test_the_payload_is_written_before_the_record(spool: Spool, steps: Steps, *, is_new: bool) -> None:
    stored = spool.enqueue(A, b"hello", is_new=is_new)

    assert ["payload a", "record a"] == steps
    assert (stored, 5, 1, b"hello") == (spool.get("a"), stored.size, stored.version, read(spool, "a"))


def test_the_record_is_deleted_before_the_payload(spool: Spool, steps: Steps) -> None:
    spool.enqueue(A, b"hello")
    steps.clear()

    spool.delete("a")

    assert ["delete record a", "delete payload a"] == steps
    with pytest.raises(MessageNotFoundError):
        spool.delete("a")


@pytest.mark.parametrize("step", ["payload a", "record a"])
@pytest.mark.parametrize("after", [True, False])
def test_a_kill_at_any_step_leaves_no_record_without_its_payload(step: str, *, after: bool) -> None:
    steps = Steps()
    meta, data = FaultyMeta(steps), FaultyData(steps)
    spool = Spool(meta, data)
    steps.fail(step, Killed(), after=after)

    with pytest.raises(Killed):
        spool.enqueue(A, b"hello", is_new=True)

    assert ["a"] == payloads(spool) or not has_record(spool, "a")
    assert has_record(spool, "a") == (step == "record a" and after)


@pytest.mark.parametrize("after", [True, False])
def test_after_a_kill_between_payload_and_record_the_id_can_be_used_again(*, after: bool) -> None:
    steps = Steps()
    meta, data = FaultyMeta(steps), FaultyData(steps)
    if after:
        steps.fail("payload a", Killed(), after=True)
    else:
        steps.fail("record a", Killed())
    with pytest.raises(Killed):
        Spool(meta, data).enqueue(A, b"cut off")
    steps.error = None

    restarted = Spool(meta, data)
    restarted.enqueue(A, b"again")

    assert b"again" == read(restarted, "a")


def test_a_refused_record_takes_its_payload_with_it(spool: Spool, steps: Steps) -> None:
    steps.fail("record a", away("none"))

    with pytest.raises(BackendUnavailableError):
        spool.enqueue(A, b"hello")

    assert ([], False) == (payloads(spool), has_record(spool, "a"))


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("error", [away("unknown"), BackendError("?"), KeyboardInterrupt()], ids=repr)
def test_nothing_is_cleaned_up_where_nobody_knows_what_happened(
    spool: Spool, steps: Steps, error: BaseException, *, after: bool
) -> None:
    steps.fail("record a", error, after=after)

    with pytest.raises(type(error)):
        spool.enqueue(A, b"hello")

    assert ["a"] == payloads(spool)
    assert after == has_record(spool, "a")


def test_a_failing_clean_up_leaves_the_first_error(spool: Spool, steps: Steps) -> None:
    class Stubborn(FaultyData):
        def delete_data(self, message_id: str) -> None:
            raise BackendError(f"can't delete {message_id}")

    spool = Spool(FaultyMeta(steps), Stubborn(steps))
    steps.fail("record a", away("none"))

    with pytest.raises(BackendUnavailableError, match="away"):
        spool.enqueue(A, b"hello")


def test_an_existing_message_is_not_touched(spool: Spool, steps: Steps) -> None:
    first = spool.enqueue(A, b"first")
    steps.clear()

    with pytest.raises(MessageExistsError):
        spool.enqueue(A, b"second")

    assert (first, b"first", []) == (spool.get("a"), read(spool, "a"), steps)


@pytest.mark.parametrize("state", State)
def test_an_existing_message_is_found_in_any_state(spool: Spool, state: State) -> None:
    spool.enqueue(MessageMetadata(id="a", state=state), b"first")

    with pytest.raises(MessageExistsError):
        spool.enqueue(A, b"second")

    assert b"first" == read(spool, "a")


def test_of_racing_enqueues_of_one_id_one_wins_with_its_own_payload(spool: Spool) -> None:
    for round_ in range(10):
        record = MessageMetadata(id=f"m{round_}")

        def enqueue(number: int, record: MessageMetadata = record) -> int:
            spool.enqueue(MessageMetadata(id=record.id, priority=number), f"payload {number}".encode())
            return number

        results = race(12, enqueue)

        (winner,) = [result for result in results if isinstance(result, int)]
        assert {MessageExistsError} == {type(result) for result in results if not isinstance(result, int)}
        assert (winner, f"payload {winner}".encode()) == (spool.get(record.id).priority, read(spool, record.id))


def test_an_orphan_is_replaced_by_one_of_those_who_race_for_it(spool: Spool) -> None:
    spool.data.store_data("a", b"orphan")

    def enqueue(number: int) -> int:
        spool.enqueue(A, f"payload {number}".encode())
        return number

    results = race(6, enqueue)

    (winner,) = [result for result in results if isinstance(result, int)]
    assert f"payload {winner}".encode() == read(spool, "a")
    assert all(isinstance(result, (int, StorageError)) for result in results)


@pytest.mark.parametrize(
    "payload",
    [b"hello", io.BytesIO(b"hello"), [b"he", b"llo"], memoryview(b"hello")],
    ids=["b", "file", "list", "view"],
)
def test_a_payload_may_be_handed_in_in_many_ways(spool: Spool, payload: bytes) -> None:
    assert 5 == spool.enqueue(A, payload).size
    assert b"hello" == read(spool, "a")


def test_a_failing_payload_leaves_nothing(spool: Spool) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"hel"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        spool.enqueue(A, chunks())

    assert ([], False) == (payloads(spool), has_record(spool, "a"))


def test_a_transaction_shows_nothing_before_its_commit(spool: Spool, steps: Steps) -> None:
    transaction = spool.begin(A)
    transaction.payload.write(b"hello")
    assert [] == steps
    with pytest.raises(ValueError, match="was not committed"):
        _ = transaction.stored

    stored = transaction.commit()

    assert (stored, "a", 5) == (transaction.stored, transaction.message_id, stored.size)
    with pytest.raises(ValueError, match="already"):
        transaction.commit()
    transaction.abort()
    assert b"hello" == read(spool, "a")


def test_an_aborted_transaction_leaves_nothing(spool: Spool, steps: Steps) -> None:
    transaction = spool.begin(A)
    transaction.payload.write(b"hello")
    transaction.abort()
    transaction.abort()
    with pytest.raises(ValueError, match="already"):
        transaction.commit()
    with pytest.raises(ZeroDivisionError), spool.begin(A) as failing:  # noqa: PT012 -- the block is what fails
        failing.payload.write(b"x")
        raise ZeroDivisionError

    assert ([], []) == (steps, payloads(spool))


def test_a_transaction_may_be_empty_aborted_or_committed_in_its_block(spool: Spool) -> None:
    with spool.begin(A):
        pass
    with spool.begin(MessageMetadata(id="b")) as transaction:
        transaction.abort()
        with pytest.raises(ValueError, match="already"):
            transaction.commit()
    with spool.begin(MessageMetadata(id="c")) as transaction:
        transaction.commit()

    assert ["a", "c"] == payloads(spool)
    assert b"" == read(spool, "a")


def test_a_transactions_record_may_change_until_its_commit(spool: Spool) -> None:
    with spool.begin(A) as transaction:
        transaction.record = MessageMetadata(id="a", headers={"to": "x"})

    assert "x" == spool.get("a").headers["to"]


def test_a_record_that_cannot_be_stored_leaves_no_payload(spool: Spool) -> None:
    with pytest.raises(InvalidMetadataError):
        spool.begin(MessageMetadata(id="a", headers={"": "x"}))
    with pytest.raises(InvalidMetadataError), spool.begin(A) as transaction:
        transaction.record = MessageMetadata(id="a", headers={"": "x"})

    assert ([], False) == (payloads(spool), has_record(spool, "a"))


def test_a_transaction_that_is_forgotten_leaves_nothing(spool: Spool) -> None:
    transaction = spool.begin(A)
    transaction.payload.write(b"half")
    del transaction

    spool.enqueue(A, b"whole")

    assert b"whole" == read(spool, "a")


@pytest.mark.parametrize("is_new", [True, False])
def test_many_are_stored_payloads_first(spool: Spool, steps: Steps, *, is_new: bool) -> None:
    batch = [(MessageMetadata(id=f"m{number}"), str(number).encode() * number) for number in range(5)]

    results = spool.enqueue_many(batch, is_new=is_new)

    assert [spool.get(f"m{number}") for number in range(5)] == results
    assert list(range(5)) == [record.size for record in results if isinstance(record, MessageMetadata)]
    assert all(steps.index(f"payload m{number}") < steps.index(f"record m{number}") for number in range(5))


def test_many_fail_one_by_one(spool: Spool) -> None:
    spool.enqueue(A, b"first")

    results = spool.enqueue_many([(A, b"second"), (MessageMetadata(id="b"), b"b")])

    assert [MessageExistsError, MessageMetadata] == [type(result) for result in results]
    assert (b"first", b"b") == (read(spool, "a"), read(spool, "b"))


@pytest.mark.parametrize(("outcome", "left"), [("none", []), ("unknown", ["a", "b"])])
def test_many_whose_records_are_all_refused_are_told_so_each(steps: Steps, outcome: str, left: list[str]) -> None:
    class Away(FaultyMeta):
        def apply(self, writes: object) -> list[object]:  # type: ignore[override] # noqa: ARG002 -- it fails for each
            raise away(outcome)

    spool = Spool(Away(steps), FaultyData(steps))

    results = spool.enqueue_many([(A, b"1"), (MessageMetadata(id="b"), b"2")], is_new=True)

    assert [BackendUnavailableError] * 2 == [type(result) for result in results]
    assert left == payloads(spool)


def test_many_with_one_that_cannot_be_store_none(spool: Spool) -> None:
    with pytest.raises(InvalidMetadataError):
        spool.enqueue_many([(A, b"1"), (MessageMetadata(id="b", size=-1), b"2")])

    assert [] == payloads(spool)


def test_none_at_all_are_stored(spool: Spool) -> None:
    assert [] == spool.enqueue_many([], is_new=True)
