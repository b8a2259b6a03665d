"""Any sequence of calls does to a store what it does to a dictionary."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from retryspool.conformance.data.machine import Both, Stage
from retryspool.conformance.data_suite import DataSuite
from retryspool.conformance.exploring import run_machine
from retryspool.conformance.marks import clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.stores import Stores
from retryspool.data import DataBackend, DataFactory

__all__ = ["ModelTests"]

_ids = st.sampled_from(["a", "A", "a.data", "b", "b.tmp.c"])
_several = st.lists(_ids, min_size=1, max_size=4, unique=True)
_sizes = st.sampled_from([5_000, 40, 0, 300_000])
_which = st.integers(0, 2)
_first = st.sampled_from([False, True])


class _Sequences(RuleBasedStateMachine):
    """What may happen, one after the other."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.both = Both(stage)

    def teardown(self) -> None:
        self.both.end()

    @invariant()
    def each_is_what_it_should_be(self) -> None:
        self.both.look()

    @rule(message_id=_ids, size=_sizes, how=st.sampled_from(["bytes", "file", "chunks"]), if_absent=_first)
    def store(self, message_id: str, size: int, how: str, *, if_absent: bool) -> None:
        self.both.stores(message_id, self.both.payload(size), how, if_absent=if_absent)

    @rule(message_id=_ids, size=_sizes)
    def store_from_what_fails(self, message_id: str, size: int) -> None:
        self.both.stores_from_what_fails(message_id, self.both.payload(size))

    @rule(message_ids=_several, size=_sizes, if_absent=_first)
    def store_many(self, message_ids: list[str], size: int, *, if_absent: bool) -> None:
        self.both.stores_many({each: self.both.payload(size) for each in message_ids}, if_absent=if_absent)

    @rule(message_ids=_several)
    def delete(self, message_ids: list[str]) -> None:
        self.both.deletes(message_ids)

    @rule(message_ids=_several, max_bytes=st.sampled_from([0, 39, 40, 5_000, 300_000]))
    def fetch(self, message_ids: list[str], max_bytes: int) -> None:
        self.both.fetches(message_ids, max_bytes)

    @rule(message_id=_ids, if_absent=_first)
    def open_a_writer(self, message_id: str, *, if_absent: bool) -> None:
        self.both.opens_a_writer(message_id, if_absent=if_absent)

    @precondition(lambda self: self.both.writers)
    @rule(which=_which, size=_sizes)
    def write(self, which: int, size: int) -> None:
        self.both.writes(which, self.both.payload(size))

    @precondition(lambda self: self.both.writers)
    @rule(which=_which)
    def close_a_writer(self, which: int) -> None:
        self.both.closes(which)

    @precondition(lambda self: self.both.writers)
    @rule(which=_which)
    def abort_a_writer(self, which: int) -> None:
        self.both.aborts(which)

    @rule(message_id=_ids)
    def open_a_reader(self, message_id: str) -> None:
        self.both.opens_a_reader(message_id)

    @precondition(lambda self: self.both.readers)
    @rule(which=_which, size=st.sampled_from([1, 1_000, 400_000]))
    def read_on(self, which: int, size: int) -> None:
        self.both.reads_on(which, size)

    @precondition(lambda self: self.both.looks % 4 == 0)  # it costs more than the others
    @rule()
    def open_again(self) -> None:
        self.both.reopen()


class ModelTests(DataSuite):
    @clause("DATA-31", "DATA-8", "DATA-11")
    def test_any_sequence_of_calls_leaves_what_it_leaves_of_a_dictionary(
        self, stores: Stores[DataFactory, DataBackend], profile: Profile, seed: int
    ) -> None:
        stage = Stage(stores)

        run_machine(
            lambda: _Sequences(stage),
            runs=profile.model_runs,
            steps=profile.model_steps,
            seed=seed,
            shrink=profile.name != "quick",
        )
