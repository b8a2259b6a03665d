"""The rules by which a message is settled, without threads and stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retryspool import NEVER, ZERO_TIME, FixedRetry, MessageMetadata, QueueOptions, State
from retryspool.meta import Delete, Update
from retryspool.queue import BOUNCE_ERROR_HEADER, changes
from retryspool.queue.losses import ALONE_HEADER, HEARD_HEADER, count_losses
from retryspool.queue.outcome import (
    MAX_ERROR_LENGTH,
    Failed,
    GivenUp,
    Outcome,
    PutOff,
    Released,
    Rules,
    SetAside,
    Succeeded,
    error_text,
)
from retryspool.queue.policy import Policies
from retryspool.records import validate_metadata

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
POLICIES = Policies({"fixed": FixedRetry(60, jitter=0)}, "fixed")


def rules(**settings: object) -> Rules:
    return Rules(QueueOptions(**settings), POLICIES)  # type: ignore[arg-type]


def claimed(**fields: object) -> MessageMetadata:
    record = MessageMetadata(
        id="a",
        state=State.ACTIVE,
        deliveries=1,
        version=7,
        lease_owner="host.1.abc",
        lease_expires=NOW + timedelta(minutes=1),
        claimed_from=State.INCOMING,
        headers={"to": "x"},
    )
    return replace(record, **fields)  # type: ignore[arg-type]


def settled(record: MessageMetadata, outcome: Outcome, by: Rules | None = None) -> MessageMetadata:
    write = (by or rules()).settle(record, outcome, NOW).write
    assert isinstance(write, Update)
    return write.metadata


OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Succeeded),
    st.builds(
        Failed,
        error=st.text(max_size=5).map(lambda text: error_text(ValueError(text))),
        permanent=st.booleans(),
        after=st.none() | st.timedeltas(),
    ),
    st.builds(GivenUp, error=st.just("gone")),
    st.builds(SetAside, error=st.sampled_from(["", "unreadable"])),
    st.builds(Released),
    st.builds(PutOff, error=st.just("down"), after=st.just(timedelta(minutes=1))),
)
RECORDS = st.builds(
    claimed,
    attempts=st.integers(0, 20),
    max_attempts=st.integers(0, 20),
    deliveries=st.integers(1, 40),
    claimed_from=st.sampled_from([None, State.INCOMING, State.DEFERRED, State.BOUNCE]),
    next_retry=st.sampled_from([ZERO_TIME, NOW]),
)
RULES = st.builds(
    rules,
    on_success=st.sampled_from(["delete", "archive"]),
    on_bounce=st.sampled_from(["keep", "delete", "archive"]),
)


@given(RECORDS, OUTCOMES, RULES)
def test_whatever_happens_a_message_leaves_active_without_a_lease_by_its_version(
    record: MessageMetadata, outcome: Outcome, by: Rules
) -> None:
    write = by.settle(record, outcome, NOW).write

    assert record.version == write.if_version
    if isinstance(write, Update):
        validate_metadata(write.metadata)
        assert write.metadata.state is not State.ACTIVE
        assert ("", ZERO_TIME, None) == (
            write.metadata.lease_owner,
            write.metadata.lease_expires,
            write.metadata.claimed_from,
        )


@given(RECORDS, OUTCOMES, RULES)
def test_only_success_deletes(record: MessageMetadata, outcome: Outcome, by: Rules) -> None:
    write = by.settle(record, outcome, NOW).write

    if isinstance(write, Delete) or write.metadata.state is State.ARCHIVED:
        assert isinstance(outcome, Succeeded)


@given(RECORDS, OUTCOMES, RULES)
def test_only_a_reported_failure_counts_as_an_attempt(record: MessageMetadata, outcome: Outcome, by: Rules) -> None:
    write = by.settle(record, outcome, NOW).write

    if isinstance(write, Update):
        counts = isinstance(outcome, Failed) and record.claimed_from is not State.BOUNCE
        assert record.attempts + counts == write.metadata.attempts


@given(RECORDS, OUTCOMES, RULES)
def test_a_bounced_message_never_returns_to_delivery(record: MessageMetadata, outcome: Outcome, by: Rules) -> None:
    record = replace(record, claimed_from=State.BOUNCE)

    write = by.settle(record, outcome, NOW).write

    assert isinstance(write, Delete) or write.metadata.state in {State.BOUNCE, State.ARCHIVED}


def test_a_failure_is_deferred_by_the_policy() -> None:
    after = settled(claimed(), Failed("ValueError: x"))

    assert (State.DEFERRED, 1, "ValueError: x") == (after.state, after.attempts, after.last_error)
    assert NOW + timedelta(seconds=60) == after.next_retry


def test_a_failure_is_deferred_by_a_delay_of_its_own() -> None:
    assert NOW + timedelta(hours=3) == settled(claimed(), Failed("x", after=timedelta(hours=3))).next_retry


@pytest.mark.parametrize(("after", "due"), [(timedelta.max, NOW + timedelta(days=36_500)), (-timedelta(days=1), NOW)])
def test_a_delay_beyond_all_bounds_is_bounded(after: timedelta, due: datetime) -> None:
    assert due == settled(claimed(), Failed("x", after=after)).next_retry


@pytest.mark.parametrize(("attempts", "state"), [(1, State.DEFERRED), (2, State.BOUNCE), (3, State.BOUNCE)])
def test_the_last_attempt_bounces(attempts: int, state: State) -> None:
    assert state is settled(claimed(attempts=attempts, max_attempts=3), Failed("x")).state


def test_a_record_without_a_number_of_attempts_has_the_queues() -> None:
    by = rules(max_attempts=2)

    assert State.DEFERRED is settled(claimed(max_attempts=0, attempts=0), Failed("x"), by).state
    assert State.BOUNCE is settled(claimed(max_attempts=0, attempts=1), Failed("x"), by).state


def test_a_permanent_failure_bounces_at_once_due_for_bounce_handlers() -> None:
    after = settled(claimed(deliveries=4, next_retry=NOW), Failed("gone", permanent=True))

    assert (State.BOUNCE, "gone", 0, ZERO_TIME) == (after.state, after.last_error, after.deliveries, after.next_retry)


def test_what_is_released_is_as_if_it_had_not_been_claimed() -> None:
    after = settled(claimed(deliveries=3, attempts=2, claimed_from=State.DEFERRED, next_retry=NOW), Released())

    assert (State.DEFERRED, 2, 2, NOW) == (after.state, after.deliveries, after.attempts, after.next_retry)


def test_what_nobody_takes_waits_where_it_was_uncounted() -> None:
    after = settled(claimed(deliveries=1), SetAside(), rules(unhandled_delay_s=30))

    assert (State.INCOMING, 0, "") == (after.state, after.deliveries, after.last_error)
    assert NOW + timedelta(seconds=30) == after.next_retry


def test_what_is_put_off_is_deferred_until_then_uncounted() -> None:
    until = NOW + timedelta(seconds=90)
    settlement = rules().settle(claimed(deliveries=3, attempts=2), PutOff("down", until - NOW), NOW)

    assert isinstance(settlement.write, Update)
    after = settlement.write.metadata
    assert (State.DEFERRED, until, "down", 2, 2) == (
        after.state,
        after.next_retry,
        after.last_error,
        after.deliveries,
        after.attempts,
    )
    assert ("put_off",) == settlement.counts
    bounce = settled(claimed(claimed_from=State.BOUNCE, last_error="why"), PutOff("down", until - NOW))
    assert (State.BOUNCE, until, "why") == (bounce.state, bounce.next_retry, bounce.last_error)


def test_what_cannot_be_read_is_deferred_uncounted() -> None:
    after = settled(claimed(deliveries=1), SetAside("BackendError: away"))

    assert (State.DEFERRED, 0, 0, "BackendError: away") == (
        after.state,
        after.deliveries,
        after.attempts,
        after.last_error,
    )


@pytest.mark.parametrize(
    ("on_bounce", "state", "due"), [("keep", State.BOUNCE, NEVER), ("archive", State.ARCHIVED, NEVER)]
)
def test_a_bounce_that_was_handled_is_kept_or_archived(on_bounce: str, state: State, due: datetime) -> None:
    after = settled(claimed(claimed_from=State.BOUNCE), Succeeded(), rules(on_bounce=on_bounce))

    assert (state, due) == (after.state, after.next_retry)


def test_a_bounce_that_was_handled_is_deleted() -> None:
    write = rules(on_bounce="delete").settle(claimed(claimed_from=State.BOUNCE), Succeeded(), NOW).write

    assert Delete("a", 7) == write


def test_a_bounce_handlers_failure_leaves_the_reason_of_the_bounce() -> None:
    bounced = claimed(claimed_from=State.BOUNCE, last_error="gone", deliveries=2, attempts=10)

    after = settled(bounced, Failed("OSError: no mailer"))

    assert (State.BOUNCE, "gone", 10, 2) == (after.state, after.last_error, after.attempts, after.deliveries)
    assert {"to": "x", BOUNCE_ERROR_HEADER: "OSError: no mailer", HEARD_HEADER: "2"} == after.headers
    assert NOW + timedelta(seconds=60) == after.next_retry


def test_bounce_handlers_have_as_many_tries_as_others_then_it_is_kept() -> None:
    last = claimed(claimed_from=State.BOUNCE, deliveries=3, max_attempts=3)

    assert NEVER == settled(last, Failed("x")).next_retry
    assert NEVER == settled(claimed(claimed_from=State.BOUNCE), Failed("x", permanent=True)).next_retry


def alone(number: int) -> dict[str, str]:
    return {"to": "x", ALONE_HEADER: str(number)}


def test_deliveries_of_which_nothing_was_heard_are_bounded() -> None:
    by = rules(max_lost_deliveries=3)

    assert by.given_up(claimed(deliveries=3, headers=alone(2))) is None
    assert by.given_up(claimed(deliveries=8, attempts=5, headers=alone(7))) is None
    assert GivenUp(
        "3 deliveries were lost: each time its worker died, or lost its lease, before the end, "
        "at last while nothing else was under way in it"
    ) == by.given_up(claimed(deliveries=4, headers=alone(3)))
    assert by.given_up(claimed(deliveries=0, attempts=5)) is None  # a record of the Go system, which doesn't count them


@pytest.mark.parametrize("headers", [{}, alone(2), alone(4), {ALONE_HEADER: "x"}])
def test_losses_beside_others_give_up_no_message_however_many_they_are(headers: dict[str, str]) -> None:
    by = rules(max_lost_deliveries=3)

    for deliveries in (4, 100):
        record = claimed(deliveries=deliveries, headers=headers)
        assert (None, True) == (by.given_up(record), by.is_last_chance(record))


@pytest.mark.parametrize(
    ("most", "deliveries", "attempts", "is_last"),
    [
        (3, 1, 0, False),
        (3, 2, 0, False),
        (3, 3, 0, True),
        (3, 7, 5, False),
        (3, 8, 5, True),
        (3, 0, 5, False),
        (1, 1, 0, False),
        (1, 2, 0, True),
        (1, 2, 1, False),
    ],
)
def test_the_last_chance_is_the_one_before_too_many_are_lost_and_never_the_first_delivery(
    most: int, deliveries: int, attempts: int, *, is_last: bool
) -> None:
    record = claimed(deliveries=deliveries, attempts=attempts)

    assert is_last == rules(max_lost_deliveries=most).is_last_chance(record)


def test_what_was_lost_before_a_failure_that_was_reported_does_not_count_any_more() -> None:
    by = rules(max_lost_deliveries=3)

    after = settled(claimed(deliveries=3, headers=alone(3)), Failed("no"), by)

    assert ({"to": "x", HEARD_HEADER: "3"}, 3, 1) == (after.headers, after.deliveries, after.attempts)
    again = [replace(after, state=State.ACTIVE, claimed_from=State.DEFERRED, deliveries=number) for number in (4, 5, 6)]
    assert [False, False, True] == [by.is_last_chance(record) for record in again]
    assert {"to": "x", HEARD_HEADER: "5"} == settled(again[1], Failed("no"), by).headers


def test_a_failure_with_no_loss_before_it_notes_nothing() -> None:
    assert {"to": "x"} == settled(claimed(deliveries=3, attempts=2), Failed("no")).headers


@pytest.mark.parametrize(
    "outcome", [Succeeded(), GivenUp("gone"), Failed("no", permanent=True), Succeeded({"to": "y", **alone(3)})]
)
@pytest.mark.parametrize("claimed_from", [State.INCOMING, State.BOUNCE])
def test_nothing_of_losses_is_left_where_a_message_has_come_to_its_end(outcome: Outcome, claimed_from: State) -> None:
    by = rules(on_success="archive", on_bounce="archive")

    after = settled(
        claimed(claimed_from=claimed_from, deliveries=3, headers={HEARD_HEADER: "1", **alone(3)}), outcome, by
    )

    assert not {HEARD_HEADER, ALONE_HEADER} & set(after.headers)


@pytest.mark.parametrize("change", [changes.bounce(), changes.retry(), changes.requeue()])
def test_what_starts_afresh_by_hand_starts_without_losses(change: changes.Change) -> None:
    state = State.INCOMING if change.name == "bounce" else State.ARCHIVED
    assert change.made is not None

    after = change.made(claimed(state=state, deliveries=3, headers={HEARD_HEADER: "1", **alone(3)}))

    assert ({"to": "x"}, 0) == (after.headers, after.deliveries)


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5", "\N{SUPERSCRIPT TWO}", "9" * 5000])
def test_a_note_of_what_was_heard_that_cannot_be_read_is_none(text: str) -> None:
    assert 4 == count_losses(claimed(deliveries=5, headers={HEARD_HEADER: text}))


def test_deliveries_to_bounce_handlers_are_bounded() -> None:
    by = rules()

    def bounce(deliveries: int, **headers: str) -> MessageMetadata:
        return claimed(claimed_from=State.BOUNCE, deliveries=deliveries, max_attempts=3, headers=headers)

    heard, is_alone = {HEARD_HEADER: "2"}, {ALONE_HEADER: "3"}
    assert by.given_up(bounce(3, **alone(2))) is None
    assert by.given_up(bounce(4, **heard)) is None  # one was lost, and not alone
    assert by.given_up(bounce(4, **heard, **is_alone)) is not None
    assert by.given_up(bounce(4, **{HEARD_HEADER: "3"})) is not None
    assert [False, True, False, True] == [
        by.is_last_chance(record) for record in (bounce(2), bounce(3), bounce(3, **heard), bounce(4, **heard))
    ]


class _Unprintable(Exception):  # noqa: N818 -- it isn't one to be raised
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such host"), "ValueError: no such host"),
        (KeyError(), "KeyError"),
        (ValueError("a\0b\ud800c"), "ValueError: a\N{REPLACEMENT CHARACTER}b?c"),
        (_Unprintable(), "_Unprintable"),
    ],
    ids=["text", "none", "not-storable", "unprintable"],
)
def test_an_error_is_kept_as_text(error: Exception, text: str) -> None:
    assert text == error_text(error)


def test_an_errors_text_is_bounded() -> None:
    text = error_text(ValueError("x" * 10_000))

    assert MAX_ERROR_LENGTH == len(text)
    assert text.endswith("x…")
