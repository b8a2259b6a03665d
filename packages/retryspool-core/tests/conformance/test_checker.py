"""The checker of histories: it accepts what some order explains, and nothing else."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from retryspool.conformance.checker import Answer, check
from retryspool.conformance.data import sequential as payloads
from retryspool.conformance.histories import OPEN, Operation, by_message, table
from retryspool.conformance.meta.sequential import (
    Call,
    Claim,
    Delete,
    Get,
    Move,
    Record,
    Refused,
    Renew,
    Store,
    Update,
    judged,
    step,
)
from retryspool.errors import DataExistsError, MessageExistsError, MessageNotFoundError, StateConflictError
from retryspool.model import State

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NEW = Record(State.INCOMING, 1, "x")
CONFLICT = Refused(StateConflictError)
MISSING = Refused(MessageNotFoundError)


def claimed(owner: str, version: int, *, content: str = "x", at: int = 0, until: int = 10) -> Record:
    """A record as a claim returns it, at and until some seconds after noon by the store's clock."""
    expires, written = NOON + timedelta(seconds=until), NOON + timedelta(seconds=at)
    return Record(State.ACTIVE, version, content, owner, expires, written)


def history(*rows: tuple[int, int | None, Call | payloads.Call, object]) -> list[Operation]:
    """Operations of a client each, by when they begin and end."""
    return [
        Operation(client, "a", call, result, began, ended) for client, (began, ended, call, result) in enumerate(rows)
    ]


GOOD = {
    "nothing": history(),
    "one after the other": history(
        (0, 1, Get(), MISSING),
        (2, 3, Store("x"), NEW),
        (4, 5, Store("y"), Refused(MessageExistsError)),
        (6, 7, Update("y", State.HOLD, 1), Record(State.HOLD, 2, "y")),
        (8, 9, Update("z", State.HOLD, 1), CONFLICT),
        (10, 11, Move(State.HOLD, State.HOLD), Record(State.HOLD, 2, "y")),
        (12, 13, Move(State.INCOMING, State.HOLD), Refused(StateConflictError, State.HOLD)),
        (14, 15, Delete(2), None),
        (16, 17, Delete(), MISSING),
        (18, 19, Claim("w"), None),
    ),
    "a read beside a write sees it or not": history(
        (0, 1, Store("x"), NEW),
        (2, 9, Update("y", State.INCOMING), Record(State.INCOMING, 2, "y")),
        (3, 4, Get(), Record(State.INCOMING, 2, "y")),
        (2, 5, Get(), NEW),
    ),
    "of two stores at once one wins": history(
        (0, 9, Store("x"), Refused(MessageExistsError)),
        (0, 9, Store("y"), Record(State.INCOMING, 1, "y")),
    ),
    "an unknown store takes effect much later": history(
        (0, None, Store("x"), OPEN),
        (1, 2, Get(), MISSING),
        (3, 4, Get(), NEW),
    ),
    "an unknown store never takes effect": history(
        (0, None, Store("x"), OPEN),
        (1, 2, Store("y"), Record(State.INCOMING, 1, "y")),
        (3, 4, Get(), Record(State.INCOMING, 1, "y")),
    ),
    "an unknown claim holds the message": history(
        (0, 1, Store("x"), NEW),
        (2, None, Claim("w"), OPEN),
        (3, 4, Claim("v"), None),
        (5, 6, Get(), claimed("w", 2)),
        (7, 8, Claim("v"), claimed("v", 3, at=10, until=20)),
    ),
    "a lease is renewed, expires, and is taken over": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2)),
        (4, 5, Renew("w", 2), claimed("w", 3, until=15)),
        (6, 7, Get(), claimed("w", 3, until=15)),
        (8, 9, Claim("v"), claimed("v", 4, at=15, until=25)),
        (10, 11, Renew("w", 3), CONFLICT),
        (12, 13, Update("w", State.DEFERRED, 3), CONFLICT),
        (14, 15, Delete(4), None),
    ),
    "an old claim meets a new record of the same version": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2)),
        (4, 5, Delete(), None),
        (6, 7, Store("x"), NEW),
        (8, 9, Claim("v"), claimed("v", 2)),
        (10, 11, Renew("w", 2), CONFLICT),
    ),
}

BAD = {
    "a stale read": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Update("y", State.INCOMING), Record(State.INCOMING, 2, "y")),
        (4, 5, Get(), NEW),
    ),
    "reads that go back": history(
        (0, 1, Store("x"), NEW),
        (2, 9, Update("y", State.INCOMING), Record(State.INCOMING, 2, "y")),
        (3, 4, Get(), Record(State.INCOMING, 2, "y")),
        (5, 6, Get(), NEW),
    ),
    "a lost update": history(
        (0, 1, Store("x"), NEW),
        (2, 9, Update("y", State.INCOMING), Record(State.INCOMING, 2, "y")),
        (2, 9, Update("z", State.INCOMING), Record(State.INCOMING, 2, "z")),
        (10, 11, Get(), Record(State.INCOMING, 2, "z")),
    ),
    "two winners of a compare and swap": history(
        (0, 1, Store("x"), NEW),
        (2, 9, Update("y", State.HOLD, 1), Record(State.HOLD, 2, "y")),
        (2, 9, Update("z", State.HOLD, 1), Record(State.HOLD, 3, "z")),
    ),
    "two movers": history(
        (0, 1, Store("x"), NEW),
        (2, 9, Move(State.INCOMING, State.HOLD), Record(State.HOLD, 2, "x")),
        (2, 9, Move(State.INCOMING, State.BOUNCE), Record(State.BOUNCE, 2, "x")),
    ),
    "no winner of a compare and swap": history(
        (0, 1, Store("x"), NEW),
        (2, 9, Update("y", State.HOLD, 1), CONFLICT),
        (2, 9, Update("z", State.HOLD, 1), CONFLICT),
    ),
    "resurrected after its deletion": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Delete(), None),
        (4, 5, Get(), NEW),
    ),
    "updated into being": history(
        (0, 1, Update("x", State.INCOMING), NEW),
    ),
    "a read from the future": history(
        (0, 1, Get(), NEW),
        (2, 3, Store("x"), NEW),
    ),
    "not found while it moves": history(
        (0, 1, Store("x"), NEW),
        (2, 9, Move(State.INCOMING, State.HOLD), Record(State.HOLD, 2, "x")),
        (3, 4, Get(), MISSING),
    ),
    "two claimers of one lease": history(
        (0, 1, Store("x"), NEW),
        (2, 9, Claim("w"), claimed("w", 2)),
        (2, 9, Claim("v"), claimed("v", 2)),
    ),
    "taken over before the lease is over": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2, until=10)),
        (4, 5, Claim("v"), claimed("v", 3, at=9)),
    ),
    "taken over by the lease that was renewed": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2, until=10)),
        (4, 5, Renew("w", 2), claimed("w", 3, until=20)),
        (6, 7, Claim("v"), claimed("v", 4, at=11, until=21)),
    ),
    "an empty claim while one is due": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), None),
        (4, 5, Claim("w"), claimed("w", 2)),
    ),
    "a version used twice": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Update("y", State.HOLD), Record(State.HOLD, 2, "y")),
        (4, 5, Update("z", State.HOLD), Record(State.HOLD, 2, "z")),
    ),
    "a version that a read doesn't find": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Move(State.INCOMING, State.HOLD), Record(State.HOLD, 2, "x")),
        (4, 5, Get(), Record(State.HOLD, 1, "x")),
    ),
    "a late worker settles": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2, until=10)),
        (4, 5, Claim("v"), claimed("v", 3, at=11)),
        (6, 7, Update("w", State.DEFERRED, 2), Record(State.DEFERRED, 4, "w")),
    ),
    "a late worker renews": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2, until=10)),
        (4, 5, Claim("v"), claimed("v", 3, at=11)),
        (6, 7, Renew("w", 2), claimed("w", 4, until=30)),
    ),
    "a late worker deletes": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2, until=10)),
        (4, 5, Claim("v"), claimed("v", 3, at=11)),
        (6, 7, Delete(2), None),
    ),
    "a renewal that writes nothing": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2, until=10)),
        (4, 5, Renew("w", 2), claimed("w", 3, until=20)),
        (6, 7, Get(), claimed("w", 3, until=10)),
    ),
    "a lease that outlives its state": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Claim("w"), claimed("w", 2)),
        (4, 5, Move(State.ACTIVE, State.INCOMING), Record(State.INCOMING, 3, "x", "w", NOON)),
    ),
    "an unknown outcome that was seen, and is contradicted": history(
        (0, None, Update("y", State.HOLD), OPEN),
        (0, 1, Store("x"), NEW),
        (2, 3, Get(), Record(State.HOLD, 2, "y")),
        (4, 5, Get(), NEW),
    ),
    "an unknown outcome that happens twice": history(
        (0, 1, Store("x"), NEW),
        (2, None, Move(State.INCOMING, State.HOLD), OPEN),
        (3, 4, Get(), Record(State.HOLD, 2, "x")),
        (5, 6, Move(State.HOLD, State.INCOMING), Record(State.INCOMING, 3, "x")),
        (7, 8, Get(), Record(State.HOLD, 4, "x")),
    ),
    "an unknown outcome before it was asked for": history(
        (0, 1, Get(), NEW),
        (2, None, Store("x"), OPEN),
    ),
    "a store that succeeds twice": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Store("y"), Record(State.INCOMING, 1, "y")),
    ),
    "a refused move that names a state it never had": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Move(State.HOLD, State.BOUNCE), Refused(StateConflictError, State.DEFERRED)),
    ),
    "a move that loses the content": history(
        (0, 1, Store("x"), NEW),
        (2, 3, Move(State.INCOMING, State.HOLD), Record(State.HOLD, 2, "")),
    ),
}

GOOD_PAYLOADS = {
    "one after the other": history(
        (0, 1, payloads.Read(), payloads.MISSING),
        (2, 3, payloads.Delete(), None),
        (4, 5, payloads.Store("x", if_absent=True), payloads.STORED),
        (6, 7, payloads.Store("y", if_absent=True), payloads.Refused(DataExistsError)),
        (8, 9, payloads.Store("y"), payloads.STORED),
        (10, 11, payloads.Read(), "y"),
    ),
    "an unknown store takes effect after a deletion": history(
        (0, None, payloads.Store("x"), OPEN),
        (1, 2, payloads.Delete(), None),
        (3, 4, payloads.Read(), "x"),
    ),
}

BAD_PAYLOADS = {
    "a stale payload": history(
        (0, 1, payloads.Store("x"), payloads.STORED),
        (2, 3, payloads.Store("y"), payloads.STORED),
        (4, 5, payloads.Read(), "x"),
    ),
    "a mix of two": history(
        (0, 9, payloads.Store("x"), payloads.STORED),
        (0, 9, payloads.Store("y"), payloads.STORED),
        (10, 11, payloads.Read(), "xy"),
    ),
    "two that were first": history(
        (0, 9, payloads.Store("x", if_absent=True), payloads.STORED),
        (0, 9, payloads.Store("y", if_absent=True), payloads.STORED),
    ),
    "a deleted one that is read": history(
        (0, 1, payloads.Store("x"), payloads.STORED),
        (2, 3, payloads.Delete(), None),
        (4, 5, payloads.Read(), "x"),
    ),
    "one that is gone while it's replaced": history(
        (0, 1, payloads.Store("x"), payloads.STORED),
        (2, 9, payloads.Store("y"), payloads.STORED),
        (3, 4, payloads.Read(), payloads.MISSING),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_history_that_some_order_explains_is_accepted(name: str) -> None:
    assert Answer.LINEARIZABLE is check(GOOD[name], None, step).answer


@pytest.mark.parametrize("name", BAD)
def test_a_history_with_a_sin_is_rejected(name: str) -> None:
    assert Answer.NOT_LINEARIZABLE is check(BAD[name], None, step).answer


@pytest.mark.parametrize("name", BAD)
def test_a_sin_is_still_found_among_innocent_operations(name: str) -> None:
    end = max(operation.ended or operation.began for operation in BAD[name]) + 1
    around = [Operation(99, "a", Get(), OPEN, 0, None), Operation(99, "a", Claim("u"), OPEN, end, None)]

    assert Answer.NOT_LINEARIZABLE is check([*BAD[name], *around], None, step).answer


@pytest.mark.parametrize("name", GOOD_PAYLOADS)
def test_a_history_of_payloads_that_some_order_explains_is_accepted(name: str) -> None:
    assert Answer.LINEARIZABLE is check(GOOD_PAYLOADS[name], None, payloads.step).answer


@pytest.mark.parametrize("name", BAD_PAYLOADS)
def test_a_history_of_payloads_with_a_sin_is_rejected(name: str) -> None:
    assert Answer.NOT_LINEARIZABLE is check(BAD_PAYLOADS[name], None, payloads.step).answer


def invented(clients: int, operations: int, seed: int) -> list[Operation]:
    """A history that surely has an order: each takes effect at some moment, around which it begins and ends."""
    chance = random.Random(seed)
    found: list[Operation] = []
    record: Record | None = None
    for moment in range(10, 10 * clients * operations + 10, 10):
        call = chance.choice(
            (Get(), Store(str(moment)), Update(str(moment), State.HOLD), Update(str(moment), State.HOLD, 3), Delete())
        )
        result: object = MISSING
        if isinstance(call, Store):
            result = Refused(MessageExistsError) if record else Record(call.state, 1, call.content)
        elif record is not None:
            conflict = isinstance(call, Update) and call.if_version not in {None, record.version}
            result = record if isinstance(call, Get) else None
            if isinstance(call, Update):
                result = CONFLICT if conflict else Record(call.state, record.version + 1, call.content)
        if not isinstance(result, Refused):
            record = result if isinstance(result, Record) else None
        began, ended = moment - chance.randrange(5 * clients), moment + chance.randrange(5 * clients)
        found.append(Operation(0, "a", call, result, began, ended))
    return found


def disturbed(operations: Sequence[Operation], seed: int) -> list[Operation]:
    """The same, but a read late in it returns what nobody has written."""
    changed = list(operations)
    at = random.Random(seed).randrange(len(changed) * 3 // 4, len(changed))
    old = changed[at]
    changed[at] = Operation(old.client, "a", Get(), Record(State.HOLD, 77, "nobody's"), old.began, old.ended)
    return changed


@pytest.mark.parametrize("seed", range(20))
def test_what_was_made_in_an_order_is_accepted_and_one_wrong_read_in_it_is_rejected(seed: int) -> None:
    operations = invented(4, 12, seed)

    assert Answer.LINEARIZABLE is check(operations, None, step).answer
    assert Answer.NOT_LINEARIZABLE is check(disturbed(operations, seed), None, step).answer


@pytest.mark.timeout(20)
def test_eight_clients_with_forty_operations_each_are_checked_within_a_second() -> None:
    operations = invented(8, 40, 1)
    began = time.process_time()

    assert Answer.LINEARIZABLE is check(operations, None, step).answer
    assert 1 > time.process_time() - began


def test_a_search_that_takes_too_long_ends_undecided_which_is_not_good() -> None:
    operations = disturbed(invented(8, 40, 1), 1)

    verdict = check(operations, None, step, most_tried=100)

    assert (Answer.UNDECIDED, False) == (verdict.answer, verdict.is_good)
    assert "undecided" in verdict.answer.value


def test_open_operations_cost_no_more_than_they_must() -> None:
    pending = [Operation(each, "a", Store(f"p{each}"), OPEN, 0, None) for each in range(12)]
    deletions = [Operation(20, "a", Delete(), MISSING, 10 * each, 10 * each + 5) for each in range(1, 30)]

    assert check([*pending, *deletions], None, step, most_tried=1000).is_good


def test_an_empty_claim_is_judged_unless_somebody_writes_the_message_meanwhile() -> None:
    store, quiet, beside = history(
        (0, 9, Store("x"), NEW),
        (10, 11, Claim("w"), None),
        (3, 4, Claim("w"), None),
    )
    other = Operation(7, "b", Store("x"), NEW, 0, 20)

    assert [store, quiet, other] == judged([store, quiet, other, beside])
    assert [quiet, beside] == judged([quiet, beside])
    for write in (Claim("v"), Delete(), Renew("v", 1), Update("y", State.HOLD)):
        assert quiet not in judged([quiet, Operation(8, "a", write, OPEN, 5, None)])


def test_messages_are_checked_apart() -> None:
    operations = [Operation(0, message_id, Get(), MISSING, 0, 1) for message_id in "abab"]

    assert {"a": 2, "b": 2} == {message_id: len(those) for message_id, those in by_message(operations).items()}


def test_a_rejected_history_is_shown_with_what_no_order_reaches() -> None:
    operations = [*BAD["a stale read"], Operation(7, "a", Delete(), OPEN, 4_000_000, None)]
    verdict = check(operations, None, step)

    assert Record(State.INCOMING, 2, "y") == verdict.model
    lines = table(operations, verdict.ordered).splitlines()
    assert ["client", "began", "ended", "operation", "result"] == lines[0].split()
    assert lines[1].split()[:3] == ["0", "0.000", "0.000"]
    assert [">"] == [line[0] for line in lines[3:4]]
    assert lines[3].endswith("incoming v1 of x")
    assert ["7", "4.000", "open"] == lines[4].split()[:3]
    assert lines[4].endswith("unknown")
