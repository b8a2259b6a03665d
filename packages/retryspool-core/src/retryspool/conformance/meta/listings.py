"""Listings: pages of a total, in every order, since any time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from operator import attrgetter

import pytest
from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import clause
from retryspool.conformance.meta.acting import HOUR, fill, forget, store, wait_until
from retryspool.conformance.meta_suite import MetaSuite
from retryspool.conformance.profiles import Profile
from retryspool.errors import InvalidOptionError
from retryspool.meta import ListOptions, ListResult, MetaBackend, SortBy
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["ListingTests"]

_MICROSECOND = timedelta(microseconds=1)
_SORTED = {
    SortBy.PRIORITY: ("b", "a", "c", "d"),
    SortBy.ATTEMPTS: ("c", "a", "d", "b"),
    SortBy.NEXT_RETRY: ("d", "c", "b", "a"),
    SortBy.CREATED: ("c", "d", "a", "b"),
    SortBy.UPDATED: ("a", "c", "d", "b"),
}


class ListingTests(MetaSuite):
    # -- pages ---------------------------------------------------------------------------------------------------------

    @clause("META-33")
    def test_an_empty_state_lists_nothing(self, meta: MetaBackend) -> None:
        store(meta, "a", state=State.HOLD)
        empty = ListResult(message_ids=(), total=0, has_more=False)

        for state in set(State) - {State.HOLD}:
            assert empty == meta.list_messages(state)
            assert empty == meta.list_messages(state, ListOptions(offset=3, limit=0))

    @clause("META-33", "META-13")
    def test_a_listing_is_of_one_state(self, meta: MetaBackend) -> None:
        for state in State:
            store(meta, state.label, state=state)

        for state in State:
            assert ListResult(message_ids=(state.label,), total=1, has_more=False) == meta.list_messages(state)

    @clause("META-33")
    def test_pages_follow_each_other(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        fill(meta, "abcdefg", created=clock())

        def page(limit: int, offset: int) -> ListResult:
            return meta.list_messages(State.INCOMING, ListOptions(limit=limit, offset=offset))

        pages = [page(3, offset) for offset in (0, 3, 6, 7, 100)]
        assert [("a", "b", "c"), ("d", "e", "f"), ("g",), (), ()] == [page.message_ids for page in pages]
        assert [True, True, False, False, False] == [page.has_more for page in pages]
        assert {7} == {page.total for page in pages}
        assert (tuple("abcdefg"), False) == (page(7, 0).message_ids, page(7, 0).has_more)
        assert (tuple("cdefg"), False) == (page(2**31, 2).message_ids, page(2**31, 2).has_more)

    @clause("META-33")
    def test_a_limit_of_none_only_counts(self, meta: MetaBackend) -> None:
        fill(meta, "abc")

        counted = [meta.list_messages(State.INCOMING, ListOptions(limit=0, offset=offset)) for offset in (0, 2, 3)]

        assert [((), 3, True), ((), 3, True), ((), 3, False)] == [
            (page.message_ids, page.total, page.has_more) for page in counted
        ]

    @clause("META-33")
    def test_a_page_holds_100_unless_another_limit_is_asked_for(self, meta: MetaBackend) -> None:
        fill(meta, [f"m{number:03}" for number in range(103)])

        page = meta.list_messages(State.INCOMING)
        whole = meta.list_messages(State.INCOMING, ListOptions(limit=1_000))

        assert (100, 103, True) == (len(page.message_ids), page.total, page.has_more)
        assert (103, 103, False) == (len(whole.message_ids), whole.total, whole.has_more)

    @pytest.mark.parametrize(
        "wrong",
        [{"limit": -1}, {"offset": -1}, {"since": datetime(2024, 1, 1)}],  # noqa: DTZ001
        ids=["limit", "offset", "since"],
    )
    @clause("META-33")
    def test_a_listing_out_of_range_is_refused(self, meta: MetaBackend, wrong: dict[str, int]) -> None:
        with pytest.raises(InvalidOptionError, match=next(iter(wrong))):
            meta.list_messages(State.INCOMING, ListOptions(**wrong))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @clause("META-33")
    def test_a_listing_follows_every_write(self, meta: MetaBackend) -> None:
        def listed() -> tuple[tuple[str, ...], ...]:
            by = SortBy.PRIORITY
            return tuple(meta.list_messages(state, ListOptions(sort_by=by)).message_ids for state in list(State)[:3])

        for priority, message_id in enumerate("abc", 1):
            store(meta, message_id, priority=priority)
        assert (("a", "b", "c"), (), ()) == listed()
        meta.update_meta("b", MessageMetadata("b", priority=9))
        assert (("a", "c", "b"), (), ()) == listed()
        meta.claim([State.INCOMING], limit=1, lease=HOUR, owner="w")
        assert (("c", "b"), ("a",), ()) == listed()
        meta.move_to_state("c", State.INCOMING, State.DEFERRED)
        meta.update_meta("a", MessageMetadata("a", state=State.DEFERRED, priority=2))
        assert (("b",), (), ("a", "c")) == listed()
        meta.delete_meta("a")
        assert (("b",), (), ("c",)) == listed()

    # -- orders --------------------------------------------------------------------------------------------------------

    @clause("META-34")
    def test_a_listing_is_sorted_either_way(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        start = clock()
        for message_id, priority, attempts, due, created in [("b", 1, 9, 3, 4), ("a", 5, 2, 4, 3), ("c", 10, 0, 2, 1)]:
            times = {"next_retry": start + due * HOUR, "created": start + created * HOUR}
            store(meta, message_id, priority=priority, attempts=attempts, **times)
        store(meta, "d", priority=30, attempts=5, created=start + 2 * HOUR)
        for message_id in "acdb":  # a clock that ticks in microseconds may stand still between two writes
            wait_until(clock, meta.update_meta(message_id, meta.get_meta(message_id)).updated)

        for by, expected in _SORTED.items():
            ascending = meta.list_messages(State.INCOMING, ListOptions(sort_by=by)).message_ids
            descending = meta.list_messages(State.INCOMING, ListOptions(sort_by=by, descending=True)).message_ids
            assert (by, expected, expected[::-1]) == (by, ascending, descending)

    @clause("META-34")
    def test_ties_are_sorted_by_id(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        created = clock()
        for message_id in ["b", "B", "a", "b2", "a.x", "10", "9", "a-x", "c", "a=", "A", "aa"]:
            store(meta, message_id, created=created)
        expected = ("10", "9", "A", "B", "a", "a-x", "a.x", "a=", "aa", "b", "b2", "c")

        for by in (SortBy.PRIORITY, SortBy.ATTEMPTS, SortBy.NEXT_RETRY, SortBy.CREATED):
            ascending = meta.list_messages(State.INCOMING, ListOptions(sort_by=by)).message_ids
            descending = meta.list_messages(State.INCOMING, ListOptions(sort_by=by, descending=True)).message_ids
            assert (by, expected, expected[::-1]) == (by, ascending, descending)

    @clause("META-34", "META-4")
    def test_values_are_told_apart_to_their_last_digit(self, meta: MetaBackend) -> None:
        far = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        times = [ZERO_TIME, ZERO_TIME + _MICROSECOND, far - 2 * _MICROSECOND, far - _MICROSECOND, NEVER]
        numbers = [0, 9, 10, 2**63 - 2, 2**63 - 1]
        expected = tuple("edcba")  # not the order of their ids
        for message_id, time, number in zip(expected, times, numbers, strict=True):
            created = max(time, times[1])  # the first instant is a time that was never set
            store(meta, message_id, next_retry=time, created=created, attempts=number)

        for by in (SortBy.NEXT_RETRY, SortBy.ATTEMPTS):
            assert (by, expected) == (by, meta.list_messages(State.INCOMING, ListOptions(sort_by=by)).message_ids)
        by_creation = meta.list_messages(State.INCOMING, ListOptions(sort_by=SortBy.CREATED)).message_ids
        assert ("d", "e", "c", "b", "a") == by_creation

    @clause("META-34", "META-33")
    def test_pages_put_together_are_the_sorted_whole(self, meta: MetaBackend, profile: Profile, seed: int) -> None:
        names = st.text("abAB09.-", min_size=1, max_size=3).filter(lambda text: text[0].isalnum())
        fields = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))

        def check(example: tuple[dict[str, tuple[int, int, int]], SortBy, bool, int]) -> None:
            messages, by, descending, limit = example
            stored = [
                store(meta, name, priority=priority, attempts=attempts, next_retry=NEVER - due * HOUR)
                for name, (priority, attempts, due) in messages.items()
            ]
            whole = [record.id for record in sorted(stored, key=attrgetter(by.value, "id"), reverse=descending)]

            listed: list[str] = []
            more = True
            while more and len(listed) <= len(whole):
                options = ListOptions(limit=limit, offset=len(listed), sort_by=by, descending=descending)
                page = meta.list_messages(State.INCOMING, options)
                assert len(whole) == page.total
                listed += page.message_ids
                more = page.has_more

            assert whole == listed
            forget(meta, messages)

        examples = st.tuples(
            st.dictionaries(names, fields, max_size=8), st.sampled_from(SortBy), st.booleans(), st.integers(1, 5)
        )
        explore(examples, check, examples=profile.examples, seed=seed)

    # -- since ---------------------------------------------------------------------------------------------------------

    @clause("META-35")
    def test_since_means_created_or_updated_at_or_after(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        year_ago = clock() - timedelta(days=365)
        old = store(meta, "old", created=year_ago)
        wait_until(clock, old.updated)
        new = store(meta, "new", created=year_ago)
        ahead = store(meta, "ahead", created=clock() + HOUR)

        def since(time: datetime) -> set[str]:
            return set(meta.list_messages(State.INCOMING, ListOptions(since=time)).message_ids)

        assert {"old", "new", "ahead"} == since(year_ago) == since(old.updated) == since(ZERO_TIME)
        assert {"new", "ahead"} == since(old.updated + _MICROSECOND) == since(new.updated)
        assert {"ahead"} == since(max(new.updated, ahead.updated) + _MICROSECOND) == since(ahead.created)
        zone = timezone(-3 * HOUR)
        assert {"ahead"} == since(ahead.created.astimezone(zone))
        assert set() == since(ahead.created + _MICROSECOND) == since((ahead.created + _MICROSECOND).astimezone(zone))

    @clause("META-35")
    def test_what_was_written_again_is_since_then(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        stored = fill(meta, "abcd", created=clock() - HOUR)
        moment = max(record.updated for record in stored)
        wait_until(clock, moment)
        meta.update_meta("b", MessageMetadata("b"))
        meta.move_to_state("c", State.INCOMING, State.HOLD)
        meta.move_to_state("d", State.INCOMING, State.INCOMING)  # writes nothing

        options = ListOptions(since=moment + _MICROSECOND)

        assert [("b",), ("c",)] == [
            meta.list_messages(each, options).message_ids for each in (State.INCOMING, State.HOLD)
        ]

    @clause("META-35", "META-33")
    def test_the_total_counts_what_matches_on_all_pages(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        fill(meta, "abcde")
        fill(meta, "fg", created=clock() + HOUR)
        since = clock() + HOUR / 2

        def page(limit: int, offset: int = 0) -> ListResult:
            return meta.list_messages(State.INCOMING, ListOptions(limit=limit, offset=offset, since=since))

        assert ListResult(message_ids=("f",), total=2, has_more=True) == page(1)
        assert ListResult(message_ids=("g",), total=2, has_more=False) == page(1, 1)
        assert ListResult(message_ids=(), total=2, has_more=True) == page(0)
