"""The index against a dict, and filled while others change what it's filled from."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from strategies import FAST

from retryspool import records
from retryspool.meta import Delete, ListOptions, SortBy, Store
from retryspool.model import MessageMetadata, State, replace
from retryspool_fs_meta import FsMetaFactory
from retryspool_fs_meta.index import Index

START = datetime(2024, 1, 1, tzinfo=UTC)
LEASE = timedelta(minutes=1)
SOURCES = (State.INCOMING, State.DEFERRED)

moments = st.integers(0, 20).map(lambda minutes: START + timedelta(minutes=minutes))
some_records = st.builds(
    MessageMetadata,
    id=st.sampled_from([f"m{number}" for number in range(12)]),
    state=st.sampled_from([*SOURCES, State.ACTIVE, State.HOLD]),
    priority=st.integers(0, 3),
    attempts=st.integers(0, 3),
    next_retry=moments,
    created=moments,
    updated=moments,
    lease_expires=moments,
    claimed_from=st.sampled_from([None, *SOURCES, State.BOUNCE]),
    route=st.sampled_from(["", "a", "b"]),
)
changes = st.one_of(some_records, st.sampled_from([f"m{number}" for number in range(12)]))
"""A record to put, or the id of one to remove."""
exclusions = st.sets(st.sampled_from(["", "a", "b"]), max_size=2)


def expected_claims(
    model: dict[str, MessageMetadata], limit: int, now: datetime, excluded: Collection[str], *, oldest_first: bool
) -> list[str]:
    """Say what a claim takes, as the interface says it: expired leases first, then the sources in order."""
    due = [each for each in model.values() if records.is_claimable(each, now) and each.route not in excluded]
    due.sort(key=lambda each: (0 if oldest_first else each.priority, records.due_at(each), each.id))
    taken = [each.id for each in due if each.state is State.ACTIVE and each.claimed_from in {None, *SOURCES}]
    for state in SOURCES:
        taken += [each.id for each in due if each.state is state]
    return taken[:limit]


@FAST
@given(st.lists(st.tuples(changes, moments, st.integers(0, 5), exclusions, st.booleans()), max_size=60))
def test_claims_take_what_a_dict_would_give(
    steps: list[tuple[MessageMetadata | str, datetime, int, set[str], bool]],
) -> None:
    """The clock goes forth and back; what is taken is put back, as it is by a claim that was cut short."""
    index = Index()
    model: dict[str, MessageMetadata] = {}
    for change, now, limit, excluded, oldest_first in steps:
        if isinstance(change, str):
            model.pop(change, None)
            index.remove(change)
        else:
            model[change.id] = change
            index.put(change)
        taken = index.take_due(SOURCES, limit, now, excluded, oldest_first=oldest_first)
        assert expected_claims(model, limit, now, excluded, oldest_first=oldest_first) == taken
        index.put_back(taken)
        for state in State:
            dues = [records.due_at(each) for each in model.values() if each.state is state]
            assert min(dues, default=None) == index.oldest_due(state)
            assert len(dues) == index.count(state)


@FAST
@given(
    st.lists(st.tuples(changes, st.sampled_from(SortBy), st.booleans(), st.none() | moments), max_size=60),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_listings_say_what_a_dict_would(
    steps: list[tuple[MessageMetadata | str, SortBy, bool, datetime | None]], limit: int, offset: int
) -> None:
    index = Index()
    model: dict[str, MessageMetadata] = {}
    for change, sort_by, descending, since in steps:
        if isinstance(change, str):
            model.pop(change, None)
            index.remove(change)
        else:
            model[change.id] = change
            index.put(change)
        found = [each for each in model.values() if each.state is State.INCOMING]
        found = [each for each in found if since is None or max(each.created, each.updated) >= since]
        found.sort(key=lambda each: (getattr(each, sort_by.value), each.id), reverse=descending)
        options = ListOptions(limit=limit, offset=offset, sort_by=sort_by, descending=descending, since=since)
        result = index.list(State.INCOMING, options)
        assert tuple(each.id for each in found[offset : offset + limit]) == result.message_ids
        assert len(found) == result.total


@FAST
@given(st.lists(st.tuples(changes, changes, st.booleans()), max_size=30))
def test_a_scan_never_undoes_what_was_said_since_it_began(
    steps: list[tuple[MessageMetadata | str, MessageMetadata | str, bool]],
) -> None:
    index = Index()
    model: dict[str, MessageMetadata] = {}
    scanned: dict[str, MessageMetadata] = {}
    touched: set[str] = set()
    index.begin_scan()
    for change, scan, is_scan in steps:
        if is_scan and isinstance(scan, MessageMetadata):
            index.put_scanned(scan)
            scanned[scan.id] = scan
            if scan.id not in touched:
                model[scan.id] = scan
        elif isinstance(change, str):
            model.pop(change, None)
            touched.add(change)
            index.remove(change)
        else:
            model[change.id] = change
            touched.add(change.id)
            index.put(change)
    assert set(model) - set(scanned) - touched == set(index.unseen(set(scanned)))
    index.end_scan()
    for state in State:
        expected = {each.id for each in model.values() if each.state is state}
        assert expected == set(index.list(state, ListOptions()).message_ids)


def test_work_begins_before_a_big_spool_is_read(base: Path) -> None:
    with FsMetaFactory(base, sync="performance").create() as backend:
        backend.apply([Store(MessageMetadata(f"m{number:05}")) for number in range(3000)])
    reached = threading.Event()
    go_on = threading.Event()
    with FsMetaFactory(base, sync="performance").create() as backend:
        real = backend._surveyor._visit
        seen = 0

        def visit(message_id: str, state: State) -> None:
            nonlocal seen
            real(message_id, state)
            seen += 1
            if seen == 200:
                reached.set()
                go_on.wait(20)

        backend._surveyor._visit = visit  # type: ignore[method-assign]
        backend.wait_for_change(0)
        claimed = backend.claim(SOURCES, limit=10, lease=LEASE, owner="w")
        assert reached.wait(20)
        claimed += backend.claim(SOURCES, limit=100, lease=LEASE, owner="w")
        assert 110 >= len(claimed) >= 100
        assert "m02999" == backend.get_meta("m02999").id
        assert 3000 == sum(backend.get_state_count(state) for state in State)
        go_on.set()
        assert 3000 - len(claimed) == backend.list_messages(State.INCOMING).total
        assert len(claimed) == backend.list_messages(State.ACTIVE).total


def test_a_spool_that_changes_while_it_is_first_read_is_known_exactly(base: Path) -> None:
    """By this process and by another instance, which tells of it by hints alone."""
    with FsMetaFactory(base, sync="performance").create() as other:
        other.apply([Store(MessageMetadata(f"m{number}")) for number in range(800)])
        with FsMetaFactory(base, sync="performance").create() as backend:

            def change(number: int) -> None:
                by = (backend, other)[number % 2]
                message_id = f"m{number}"
                if number % 3 == 0:
                    by.delete_meta(message_id)
                elif number % 3 == 1:
                    by.move_to_state(message_id, State.INCOMING, State.DEFERRED)
                by.store_meta(f"n{number}", MessageMetadata(f"n{number}", State.HOLD))
                if number % 5 == 0:
                    by.move_to_state(f"n{number}", State.HOLD, State.INCOMING)

            with ThreadPoolExecutor(4) as pool:
                changing = [pool.submit(change, number) for number in range(800)]
                backend.list_messages(State.INCOMING)  # begins to read it
                for each in changing:
                    each.result()
            for state in State:
                there = sorted(path.stem for path in (base / state.label).iterdir())
                everything = ListOptions(limit=10_000)
                assert there == sorted(backend.list_messages(state, everything).message_ids)
                assert there == sorted(record.id for record in backend.iter_messages(state))


def test_what_stays_is_listed_once_while_others_come_and_go(base: Path) -> None:
    with FsMetaFactory(base, sync="performance").create() as backend:
        stays = {f"stays{number}" for number in range(300)}
        backend.apply([Store(MessageMetadata(message_id)) for message_id in sorted(stays)])
        stop = threading.Event()

        def churn(worker: int) -> None:
            number = 0
            while not stop.is_set():
                message_id = f"churn{worker}-{number}"
                number += 1
                backend.store_meta(message_id, MessageMetadata(message_id))
                backend.update_meta(message_id, replace(backend.get_meta(message_id), attempts=1))
                backend.move_to_state(message_id, State.INCOMING, State.HOLD)
                backend.apply([Delete(message_id)])

        with ThreadPoolExecutor(2) as pool:
            workers = [pool.submit(churn, worker) for worker in range(2)]
            try:
                for _ in range(10):
                    seen = [record.id for record in backend.iter_messages(State.INCOMING, batch_size=7)]
                    assert sorted(stays) == sorted(each for each in seen if each in stays)
                    assert len(seen) == len(set(seen))
                    page = backend.list_messages(State.INCOMING, ListOptions(limit=10_000))
                    assert stays <= set(page.message_ids)
                    assert len(page.message_ids) == page.total
            finally:
                stop.set()
            for each in workers:
                each.result()
