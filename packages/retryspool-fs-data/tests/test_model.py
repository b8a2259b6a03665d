"""Any sequence of calls, on several instances, leaves what it leaves in a dict."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from retryspool.errors import DataExistsError, StorageError
from retryspool_fs_data import FsDataBackend, FsDataFactory, SyncMode, shards

ids = st.sampled_from(["a", "b", "A", "aa", "aA", "aab", "aab.data", "a.", "a..", "misc", "mi"])
contents = st.one_of(st.binary(max_size=20), st.integers(0, 300_000).map(lambda size: b"x" * size))
instances = st.integers(0, 1)


class Store(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.expected: dict[str, bytes] = {}
        self.backends: list[FsDataBackend] = []

    @initialize(modes=st.tuples(st.sampled_from(SyncMode), st.sampled_from(SyncMode)))
    def open(self, modes: tuple[SyncMode, SyncMode]) -> None:
        self.backends = [FsDataFactory(self.folder.name, sync=mode).create() for mode in modes]

    @rule(instance=instances, message_id=ids, content=contents, if_absent=st.booleans())
    def store(self, instance: int, message_id: str, content: bytes, if_absent: bool) -> None:  # noqa: FBT001 -- a rule
        try:
            assert len(content) == self.backends[instance].store_data(message_id, content, if_absent=if_absent)
            assert not (if_absent and message_id in self.expected)
        except DataExistsError:
            assert if_absent
            assert message_id in self.expected
        else:
            self.expected[message_id] = content

    @rule(instance=instances, items=st.lists(st.tuples(ids, contents), max_size=5), if_absent=st.booleans())
    def store_many(self, instance: int, items: list[tuple[str, bytes]], if_absent: bool) -> None:  # noqa: FBT001
        results = self.backends[instance].store_many(items, if_absent=if_absent)
        assert len(items) == len(results)
        for (message_id, content), result in zip(items, results, strict=True):
            if if_absent and message_id in self.expected:
                assert isinstance(result, DataExistsError)
            else:
                assert len(content) == result
                self.expected[message_id] = content

    @rule(instance=instances, message_id=ids)
    def delete(self, instance: int, message_id: str) -> None:
        self.backends[instance].delete_data(message_id)
        self.expected.pop(message_id, None)

    @rule(instance=instances, message_ids=st.lists(ids, max_size=5))
    def delete_many(self, instance: int, message_ids: list[str]) -> None:
        results: list[StorageError | None] = self.backends[instance].delete_many(message_ids)
        assert [None] * len(message_ids) == results
        for message_id in message_ids:
            self.expected.pop(message_id, None)

    @rule(instance=instances, message_id=ids)
    def abort(self, instance: int, message_id: str) -> None:
        with self.backends[instance].get_data_writer(message_id) as writer:
            writer.write(b"never")
            writer.abort()

    @rule(instance=instances)
    def tidy(self, instance: int) -> None:
        for name in ("aa", "aA", "mi", "misc", "a."):
            self.backends[instance]._store.shards._remove_if_empty(name)

    @rule(instance=instances, mode=st.sampled_from(SyncMode))
    def reopen(self, instance: int, mode: SyncMode) -> None:
        self.backends[instance].close()
        self.backends[instance] = FsDataFactory(self.folder.name, sync=mode).create()

    @invariant()
    def all_is_as_expected(self) -> None:
        for backend in self.backends:
            assert sorted((name, len(content)) for name, content in self.expected.items()) == sorted(
                (info.message_id, info.size) for info in backend.iter_data()
            )
            assert self.expected == backend.fetch_many([*self.expected, "none"], max_bytes=300_000)

    def teardown(self) -> None:
        for backend in self.backends:
            backend.close()
        self.folder.cleanup()


def test_any_sequence_of_calls_leaves_what_it_leaves_in_a_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_TIDY_INTERVAL_S", 0.0)
    Store.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
    Store.TestCase("runTest").debug()
