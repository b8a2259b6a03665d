"""Notes over networks that fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from retryspool.conformance.attempts import is_given_up
from retryspool.conformance.faults import BLACK_HOLE, LOST_REPLY, Fault
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.network_calls import TRAFFIC
from retryspool.conformance.meta_suite import MetaSuite, needs_notes
from retryspool.conformance.network import LANES, Change, Traffic, check_hang, check_reads, check_writes
from retryspool.conformance.profiles import Profile
from retryspool.conformance.severing import Sever, Severing
from retryspool.errors import BackendUnavailableError, StorageError
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.model import MessageMetadata, State

__all__ = ["NoteNetworkTests"]

_Notes = Mapping[str, str | None]
_BEFORE = "before"


@dataclass(frozen=True, slots=True)
class _NoteChange(Change[MetaBackend, _Notes]):
    """Sets a note, or removes it."""

    text: str | None

    def prepare(self, backend: MetaBackend, prefix: str) -> _Notes:
        needs_notes(backend).set_note(prefix, _BEFORE)
        return {prefix: _BEFORE}

    def run(self, backend: MetaBackend, before: _Notes) -> Mapping[str, object]:
        for name in before:
            needs_notes(backend).set_note(name, self.text)
        return dict.fromkeys(before, self.text)

    def judge(self, sound: MetaBackend, before: _Notes, answers: Mapping[str, object]) -> list[str]:
        notes = needs_notes(sound).get_notes()
        wrong = {name: self._fault(notes.get(name), answers[name]) for name in before}
        return [f"{name}: {fault}; it is {notes.get(name)!r}" for name, fault in wrong.items() if fault]

    def _fault(self, found: str | None, answer: object) -> str:
        match answer:
            case BackendUnavailableError(outcome="none"):
                return "it was changed, and the caller is told that it wasn't" if found != _BEFORE else ""
            case StorageError():
                return "" if is_given_up(answer) and found in {_BEFORE, self.text} else f"{answer!r}"
            case _:
                return "it wasn't changed, and the caller believes it was" if found != self.text else ""


_TRAFFIC = Traffic(
    probe=TRAFFIC.probe,
    store=TRAFFIC.store,
    store_and_read=TRAFFIC.store_and_read,
    any_call=TRAFFIC.any_call,
    begin=lambda _, __: {},
    writes={"set_note": _NoteChange("x" * 50_000), "set_note to remove one": _NoteChange(None)},
    reads={"get_notes": lambda meta: needs_notes(meta).get_notes()},
)


class NoteNetworkTests(MetaSuite, Severing[MetaFactory, MetaBackend]):
    @pytest.fixture
    def noted(self, meta: MetaBackend) -> MetaBackend:
        """The test's store, not reached through the network, with a note and what the network is probed by."""
        needs_notes(meta).set_note("there", "x")
        meta.store_meta("there", MessageMetadata("there", state=State.HOLD))
        return meta

    @pytest.mark.parametrize("fault", [BLACK_HOLE, LOST_REPLY], ids=str)
    @clause("META-65", level=Level.NETWORK)
    def test_notes_of_a_store_that_hangs_are_given_up_in_time(
        self, noted: MetaBackend, sever: Sever[MetaFactory, MetaBackend], meta_factory: MetaFactory, fault: Fault
    ) -> None:
        check_hang(_TRAFFIC, sever(meta_factory), noted, fault)

    @clause("META-65", level=Level.NETWORK)
    def test_what_may_have_become_of_a_note_is_told(
        self,
        noted: MetaBackend,
        sever: Sever[MetaFactory, MetaBackend],
        meta_factory: MetaFactory,
        profile: Profile,
    ) -> None:
        check_writes(_TRAFFIC, [sever(meta_factory) for _ in range(LANES)], noted, profile.faults)

    @clause("META-65", level=Level.NETWORK)
    @pytest.mark.usefixtures("noted")
    def test_reading_notes_is_right_or_has_done_nothing(
        self,
        sever: Sever[MetaFactory, MetaBackend],
        meta_factory: MetaFactory,
        profile: Profile,
    ) -> None:
        check_reads(_TRAFFIC, sever(meta_factory), profile.faults)
