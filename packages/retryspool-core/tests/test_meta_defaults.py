"""The defaults against a rival who writes at the worst moment; undisturbed, they are run by the conformance suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from minimal_backends import MinimalDataFactory, MinimalMeta, MinimalMetaFactory

from retryspool.data import DataBackend, DataFactory
from retryspool.errors import (
    BackendClosedError,
    BackendUnavailableError,
    InvalidOptionError,
    MessageNotFoundError,
    StateConflictError,
)
from retryspool.memory import MemoryMetaFactory
from retryspool.meta import Delete, MetaBackend, MetaCapabilities, MetaFactory, Store, check_note, keeps_contract
from retryspool.model import MessageMetadata, State, utc_now

HOUR = timedelta(hours=1)


class Disturbed(MinimalMeta):
    """Lets a rival in after each look: between what a default reads and what it writes of it."""

    rival: Callable[[], object] | None = None

    def _let_in(self) -> None:
        rival, self.rival = self.rival, None
        if rival is not None:
            rival()

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        yield from super().iter_messages(state, batch_size)
        if state is State.INCOMING:
            self._let_in()

    def get_meta(self, message_id: str) -> MessageMetadata:
        found = super().get_meta(message_id)
        self._let_in()
        return found


@pytest.fixture
def stores() -> tuple[Disturbed, MinimalMeta]:
    factory = MinimalMetaFactory()
    return Disturbed(factory.stored, factory.lock), factory.create()


def claim(meta: MetaBackend, limit: int, owner: str = "me") -> list[str]:
    return [record.id for record in meta.claim([State.INCOMING], limit=limit, lease=HOUR, owner=owner)]


def test_a_claim_that_lost_a_race_looks_again(stores: tuple[Disturbed, MinimalMeta]) -> None:
    meta, rival = stores
    for message_id in "abc":
        meta.store_meta(message_id, MessageMetadata(message_id))
    meta.rival = lambda: claim(rival, 1, "rival")

    assert ["b"] == claim(meta, 1)
    assert ("rival", "me") == (meta.get_meta("a").lease_owner, meta.get_meta("b").lease_owner)


def test_a_claim_that_lost_a_race_is_filled_up(stores: tuple[Disturbed, MinimalMeta]) -> None:
    meta, rival = stores
    for message_id in "abcd":
        meta.store_meta(message_id, MessageMetadata(message_id))
    meta.rival = lambda: claim(rival, 1, "rival")

    assert ["b", "c"] == claim(meta, 2)


def test_a_claim_passes_over_what_was_deleted_meanwhile(stores: tuple[Disturbed, MinimalMeta]) -> None:
    meta, rival = stores
    meta.store_meta("a", MessageMetadata("a"))
    meta.rival = lambda: rival.delete_meta("a")

    assert [] == claim(meta, 1)


def test_a_renewal_that_lost_a_race_changes_nothing(stores: tuple[Disturbed, MinimalMeta]) -> None:
    meta, rival = stores
    held = meta.store_meta("a", MessageMetadata("a", state=State.ACTIVE))
    meta.rival = lambda: claim(rival, 1, "rival")

    (refused,) = meta.renew([held], lease=HOUR)

    assert isinstance(refused, StateConflictError)
    assert "rival" == meta.get_meta("a").lease_owner


# -- when the backend fails in the middle ------------------------------------------------------------------------------


def test_a_batch_answers_for_each_write_though_the_store_fails_between() -> None:
    class Failing(MinimalMeta):
        def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
            if message_id == "b":
                raise BackendUnavailableError("the disk is gone", outcome="unknown")
            super().delete_meta(message_id, if_version=if_version)

    factory = MinimalMetaFactory()
    meta = Failing(factory.stored, factory.lock)
    for message_id in "abc":
        meta.store_meta(message_id, MessageMetadata(message_id))

    results = meta.apply([Delete("a"), Delete("b"), Delete("c")])

    assert [type(None), BackendUnavailableError, type(None)] == [type(result) for result in results]
    assert ["b"] == sorted(factory.stored)


def test_a_batch_that_is_closed_half_way_says_what_was_done() -> None:
    class Closing(MinimalMeta):
        def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
            stored = super().store_meta(message_id, metadata)
            self.close()
            return stored

    factory = MinimalMetaFactory()

    first, second = Closing(factory.stored, factory.lock).apply(
        [Store(MessageMetadata("a")), Store(MessageMetadata("b"))]
    )

    assert factory.stored["a"] == first
    assert isinstance(second, BackendClosedError)


def test_a_batch_begins_with_what_fails_and_goes_on() -> None:
    missing, stored = MinimalMetaFactory().create().apply([Delete("a"), Store(MessageMetadata("a"))])

    assert (MessageNotFoundError, MessageMetadata) == (type(missing), type(stored))


# -- and that these are the defaults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interface", "factory"),
    [(MetaBackend, MinimalMetaFactory), (DataBackend, MinimalDataFactory)],
    ids=["meta", "data"],
)
def test_the_minimal_backends_override_nothing_but_what_is_abstract(
    interface: type[MetaBackend | DataBackend], factory: type[MetaFactory | DataFactory]
) -> None:
    made = type(factory().create())
    written = {name for name in vars(made) if not name.startswith("_")} - {"capabilities"}

    assert interface.__abstractmethods__ == written


# -- what came with contract 1.1 ---------------------------------------------------------------------------------------


def test_the_default_claim_takes_the_oldest_first_if_asked_to() -> None:
    meta, now = MinimalMetaFactory().create(), utc_now()
    for message_id, priority, age in [("a", 1, 1), ("b", 9, 3), ("d", 5, 2), ("c", 9, 2)]:
        meta.store_meta(message_id, MessageMetadata(message_id, priority=priority, next_retry=now - age * HOUR))

    claimed = meta.claim([State.INCOMING], limit=3, lease=HOUR, owner="me", oldest_first=True)

    assert ["b", "c", "d"] == [record.id for record in claimed]


@pytest.mark.parametrize(
    ("declared", "wanted", "keeps"),
    [("1.0", "1.0", True), ("1.0", "1.1", False), ("1.1", "1.1", True), ("1.10", "1.9", True), ("2.0", "1.1", True)],
)
def test_a_backend_keeps_the_contract_that_it_declares_and_those_before(
    declared: str,
    wanted: str,
    keeps: bool,  # noqa: FBT001 -- a parameter of the test
) -> None:
    class Declaring(MinimalMeta):
        capabilities = MetaCapabilities(processes=False, durable=False, server_clock=False, contract=declared)

    factory = MinimalMetaFactory()

    assert keeps == keeps_contract(Declaring(factory.stored, factory.lock), wanted)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("", "x"), ("../pause", "x"), (".pause", "x"), ("two words", "x"), ("ä", None), ("n" * 201, "x")),
        *(("n", "x" * 65_537), ("n", "ä" * 32_769), ("n", "a\0b"), ("n", "\ud800")),
    ],
    ids=repr,
)
def test_a_note_that_not_every_backend_can_keep_is_refused(name: str, text: str | None) -> None:
    with pytest.raises(InvalidOptionError):
        check_note(name, text)


@pytest.mark.parametrize(("name", "text"), [("pause.routes", "x" * 65_536), ("A@b+c", ""), ("n" * 200, None)])
def test_a_note_within_the_bounds_is_fine(name: str, text: str | None) -> None:
    check_note(name, text)


def test_the_default_destroys_notes_too() -> None:
    factory = MemoryMetaFactory()
    factory.create().set_note("pause", "x")

    factory.destroy()

    assert {} == factory.create().get_notes()
