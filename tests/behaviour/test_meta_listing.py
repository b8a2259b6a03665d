"""list_messages, iter_messages and the counts: META 6."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta, timezone
from operator import attrgetter

import pytest
from backends import NewMeta
from hypothesis import given
from hypothesis import strategies as st
from racing import race
from strategies import FAST

from retryspool.errors import InvalidOptionError
from retryspool.meta import ListOptions, ListResult, MetaBackend, SortBy, StateCounter
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State, utc_now

HOUR = timedelta(hours=1)


def fill(meta: MetaBackend, *ids: str, state: State = State.INCOMING) -> list[MessageMetadata]:
    return [meta.store_meta(message_id, MessageMetadata(message_id, state=state)) for message_id in ids]


# -- list --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State, ids=str)
def test_an_empty_state_lists_nothing(meta: MetaBackend, state: State) -> None:
    assert ListResult(message_ids=(), total=0, has_more=False) == meta.list_messages(state)


def test_a_listing_is_of_one_state(meta: MetaBackend) -> None:
    for state in State:
        fill(meta, state.label, state=state)

    for state in State:
        assert ListResult(message_ids=(state.label,), total=1, has_more=False) == meta.list_messages(state)


def test_pages_follow_each_other(meta: MetaBackend) -> None:
    fill(meta, *"abcdefg")

    pages = [meta.list_messages(State.INCOMING, ListOptions(limit=3, offset=offset)) for offset in (0, 3, 6, 7, 100)]

    assert [("a", "b", "c"), ("d", "e", "f"), ("g",), (), ()] == [page.message_ids for page in pages]
    assert [True, True, False, False, False] == [page.has_more for page in pages]
    assert {7} == {page.total for page in pages}


def test_a_limit_of_none_only_counts(meta: MetaBackend) -> None:
    fill(meta, *"abc")

    counted = meta.list_messages(State.INCOMING, ListOptions(limit=0))

    assert ((), 3) == (counted.message_ids, counted.total)


def test_a_page_holds_100_unless_another_limit_is_asked_for(meta: MetaBackend) -> None:
    fill(meta, *(f"m{number:03}" for number in range(103)))

    page = meta.list_messages(State.INCOMING)

    assert (100, 103, True) == (len(page.message_ids), page.total, page.has_more)


SORTED = {
    SortBy.PRIORITY: ("b", "a", "c", "d"),
    SortBy.ATTEMPTS: ("c", "a", "d", "b"),
    SortBy.NEXT_RETRY: ("d", "c", "b", "a"),
    SortBy.CREATED: ("c", "d", "a", "b"),
    SortBy.UPDATED: ("a", "c", "d", "b"),
}


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("by", SortBy, ids=lambda by: by.value)
def test_a_listing_is_sorted_either_way(meta: MetaBackend, by: SortBy, descending: bool) -> None:  # noqa: FBT001
    start = utc_now()
    for message_id, priority, attempts, due, created in [("b", 1, 9, 3, 4), ("a", 5, 2, 4, 3), ("c", 7, 0, 2, 1)]:
        meta.store_meta(
            message_id,
            MessageMetadata(
                message_id,
                priority=priority,
                attempts=attempts,
                next_retry=start + due * HOUR,
                created=start + created * HOUR,
            ),
        )
    meta.store_meta("d", MessageMetadata("d", priority=8, attempts=5, created=start + 2 * HOUR))
    for message_id in "acdb":  # a clock that ticks in microseconds may stand still between two writes
        record, updated = meta.get_meta(message_id), utc_now()
        while record.updated <= updated:
            record = meta.update_meta(message_id, record)

    listed = meta.list_messages(State.INCOMING, ListOptions(sort_by=by, descending=descending)).message_ids

    assert SORTED[by][:: -1 if descending else 1] == listed


@pytest.mark.parametrize("by", [SortBy.PRIORITY, SortBy.ATTEMPTS, SortBy.NEXT_RETRY, SortBy.CREATED], ids=str)
def test_ties_are_sorted_by_id(meta: MetaBackend, by: SortBy) -> None:
    created = utc_now()
    for message_id in ["b", "B", "a", "b2", "a.x", "10", "9", "a-x", "c"]:
        meta.store_meta(message_id, MessageMetadata(message_id, created=created))
    expected = ("10", "9", "B", "a", "a-x", "a.x", "b", "b2", "c")

    assert expected == meta.list_messages(State.INCOMING, ListOptions(sort_by=by)).message_ids
    assert expected[::-1] == meta.list_messages(State.INCOMING, ListOptions(sort_by=by, descending=True)).message_ids


def test_since_means_created_or_updated_at_or_after(meta: MetaBackend) -> None:
    year_ago = utc_now() - timedelta(days=365)
    (old,) = [meta.store_meta("old", MessageMetadata("old", created=year_ago))]
    while (moment := utc_now()) <= old.updated:
        pass
    new = meta.store_meta("new", MessageMetadata("new", created=year_ago))
    meta.store_meta("later", MessageMetadata("later", created=utc_now() + HOUR))

    def since(time: datetime) -> set[str]:
        return set(meta.list_messages(State.INCOMING, ListOptions(since=time)).message_ids)

    assert {"old", "new", "later"} == since(year_ago)
    assert {"new", "later"} == since(moment)
    assert {"new", "later"} == since(new.updated)
    assert {"later"} == since(utc_now() + timedelta(minutes=1))
    assert {"later"} == since((utc_now() + timedelta(minutes=1)).astimezone(timezone(-3 * HOUR)))
    assert set() == since(utc_now() + 2 * HOUR)


def test_the_total_counts_what_matches_on_all_pages(meta: MetaBackend) -> None:
    fill(meta, *"abcde")
    for message_id in "fg":
        meta.store_meta(message_id, MessageMetadata(message_id, created=utc_now() + HOUR))
    options = ListOptions(limit=1, since=utc_now() + timedelta(minutes=30))

    assert ListResult(message_ids=("f",), total=2, has_more=True) == meta.list_messages(State.INCOMING, options)


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"offset": -1}, {"since": datetime(2024, 1, 1)}], ids=str)  # noqa: DTZ001
def test_a_listing_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidOptionError, match=next(iter(wrong))):
        ListOptions(**wrong)  # pyright: ignore[reportArgumentType]


@FAST
@given(
    messages=st.dictionaries(
        st.text("abAB09.-", min_size=1, max_size=3).filter(lambda text: text[0].isalnum()),
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
        max_size=12,
    ),
    by=st.sampled_from(SortBy),
    descending=st.booleans(),
    limit=st.integers(1, 5),
)
def test_pages_put_together_are_the_sorted_whole(
    new_meta: NewMeta,
    messages: dict[str, tuple[int, int, int]],
    by: SortBy,
    descending: bool,  # noqa: FBT001
    limit: int,
) -> None:
    meta = new_meta()
    stored = [
        meta.store_meta(
            message_id, MessageMetadata(message_id, priority=priority, attempts=attempts, next_retry=NEVER - due * HOUR)
        )
        for message_id, (priority, attempts, due) in messages.items()
    ]
    whole = [record.id for record in sorted(stored, key=attrgetter(by.value, "id"), reverse=descending)]

    listed: list[str] = []
    more = True
    while more:
        options = ListOptions(limit=limit, offset=len(listed), sort_by=by, descending=descending)
        page = meta.list_messages(State.INCOMING, options)
        listed += page.message_ids
        more = page.has_more

    assert whole == listed


# -- iterate -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_an_iteration_yields_each_record_of_the_state_once(meta: MetaBackend, batch_size: int) -> None:
    stored = fill(meta, *(f"m{number}" for number in range(20)))
    fill(meta, "other", state=State.HOLD)

    found = list(meta.iter_messages(State.INCOMING, batch_size))

    assert sorted(stored, key=attrgetter("id")) == sorted(found, key=attrgetter("id"))


def test_an_iteration_of_an_empty_state_yields_nothing(meta: MetaBackend) -> None:
    fill(meta, "a")

    assert [] == list(meta.iter_messages(State.HOLD))


def test_what_stays_is_yielded_once_while_others_come_and_go(meta: MetaBackend) -> None:
    stay = {f"stay{number}" for number in range(15)}
    fill(meta, *stay, *(f"move{number}" for number in range(15)), *(f"gone{number}" for number in range(15)))

    found: Counter[str] = Counter()
    for number, record in enumerate(meta.iter_messages(State.INCOMING, 4)):
        assert State.INCOMING is record.state
        found[record.id] += 1
        if number < 15:
            meta.move_to_state(f"move{number}", State.INCOMING, State.HOLD)
            meta.delete_meta(f"gone{14 - number}")
            fill(meta, f"come{number}")

    assert dict.fromkeys(stay, 1) == {message_id: found[message_id] for message_id in stay}
    assert {1} == set(found.values())


def test_what_stays_is_yielded_once_though_it_is_written_meanwhile(meta: MetaBackend) -> None:
    fill(meta, *(f"m{number:02}" for number in range(20)))

    found: list[str] = []
    for record in meta.iter_messages(State.INCOMING, 3):
        found.append(record.id)
        for number in (0, 7, 19):
            meta.update_meta(
                f"m{number:02}", MessageMetadata(f"m{number:02}", next_retry=utc_now() - HOUR * len(found))
            )

    assert [f"m{number:02}" for number in range(20)] == sorted(found)


def test_what_stays_is_yielded_by_every_iteration_while_threads_move_the_others(meta: MetaBackend) -> None:
    stay = {f"stay{number}" for number in range(10)}
    fill(meta, *stay, *(f"move{number}" for number in range(10)))
    stop = threading.Event()

    def run(racer: int) -> int:
        if racer:
            rounds = 0
            while not stop.is_set():
                for number in range(racer - 1, 10, 2):
                    meta.move_to_state(f"move{number}", State.INCOMING, State.HOLD)
                    meta.move_to_state(f"move{number}", State.HOLD, State.INCOMING)
                rounds += 1
            return rounds
        try:
            for _ in range(10):
                found = Counter(record.id for record in meta.iter_messages(State.INCOMING))
                assert dict.fromkeys(stay, 1) == {message_id: found[message_id] for message_id in stay}
        finally:
            stop.set()
        return 10

    assert all(isinstance(result, int) for result in race(3, run))


def test_several_iterations_do_not_disturb_each_other(meta: MetaBackend) -> None:
    fill(meta, *"abcdef")

    pairs = zip(meta.iter_messages(State.INCOMING, 2), meta.iter_messages(State.INCOMING, 3), strict=True)

    assert [set("abcdef")] * 2 == [{record.id for record in side} for side in zip(*pairs, strict=True)]


def test_an_iteration_may_be_dropped_half_way(meta: MetaBackend) -> None:
    fill(meta, *"abcdef")

    next(iter(meta.iter_messages(State.INCOMING, 2)))

    assert 6 == len(list(meta.iter_messages(State.INCOMING)))


# -- counts, of the backends that have them ----------------------------------------------------------------------------


@pytest.fixture
def counting(meta: MetaBackend) -> tuple[MetaBackend, StateCounter]:
    if not isinstance(meta, StateCounter):
        pytest.skip("this backend has no counts, which are optional")
    return meta, meta


def test_counts_follow_every_write(counting: tuple[MetaBackend, StateCounter]) -> None:
    meta, counter = counting

    def counts() -> list[int]:
        return [counter.get_state_count(state) for state in State]

    seen = [counts()]
    fill(meta, *"abc")
    seen.append(counts())
    meta.claim([State.INCOMING], limit=2, lease=HOUR, owner="w")
    seen.append(counts())
    meta.update_meta("a", MessageMetadata("a", state=State.DEFERRED))
    meta.move_to_state("c", State.INCOMING, State.ARCHIVED)
    seen.append(counts())
    meta.delete_meta("c")
    seen.append(counts())

    expected = [[0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0], [0, 1, 1, 0, 0, 1], [0, 1, 1, 0, 0, 0]]
    assert expected == seen


def test_the_oldest_due_is_the_earliest_of_its_state(counting: tuple[MetaBackend, StateCounter]) -> None:
    meta, counter = counting
    assert [None] * 6 == [counter.get_oldest_due(state) for state in State]
    now = utc_now()

    for message_id, due in {"a": now + HOUR, "b": now - HOUR, "c": NEVER}.items():
        meta.store_meta(message_id, MessageMetadata(message_id, state=State.DEFERRED, next_retry=due))
    assert now - HOUR == counter.get_oldest_due(State.DEFERRED)

    meta.delete_meta("b")
    assert now + HOUR == counter.get_oldest_due(State.DEFERRED)

    meta.update_meta("a", MessageMetadata("a", state=State.DEFERRED, next_retry=ZERO_TIME))
    assert ZERO_TIME == counter.get_oldest_due(State.DEFERRED)

    (claimed,) = meta.claim([State.DEFERRED], limit=9, lease=HOUR, owner="w")
    assert claimed.lease_expires == counter.get_oldest_due(State.ACTIVE)
    assert NEVER == counter.get_oldest_due(State.DEFERRED)
