"""Notes after the store was opened again, its writer killed, its server restarted, or the power cut."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from retryspool.conformance.attempts import soon
from retryspool.conformance.children import Child, children, say
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, needs_notes
from retryspool.conformance.power import cut_everywhere
from retryspool.conformance.powercut import Image, Recorded
from retryspool.conformance.profiles import Profile
from retryspool.conformance.stores import Stores
from retryspool.conformance.suite import needs, needs_capability
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.model import MessageMetadata

__all__ = ["KeptNoteTests", "Steps", "Text", "scribble"]

_NAMES = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Text:
    """What a note was set to; None where it was removed."""

    text: str | None


Steps = Callable[[MetaBackend], dict[str, Text]]


def _set(meta: MetaBackend, notes: dict[str, str | None]) -> dict[str, Text]:
    for name, text in notes.items():
        needs_notes(meta).set_note(name, text)
    return {name: Text(text) for name, text in notes.items()}


def _make(meta: MetaBackend) -> dict[str, Text]:
    return _set(meta, {"a": "1" * 9000, "b": ""})


def _replace(meta: MetaBackend) -> dict[str, Text]:
    return _set(meta, {"a": "2" * 5000})


def _beside_records(meta: MetaBackend) -> dict[str, Text]:
    meta.store_meta("a", MessageMetadata("a"))
    changed = _set(meta, {"c": "3" * 20_000})
    meta.delete_meta("a")
    return changed


def _remove(meta: MetaBackend) -> dict[str, Text]:
    return _set(meta, {"a": None, "b": "4"})


def _make_again(meta: MetaBackend) -> dict[str, Text]:
    return _set(meta, {"a": "5", "c": None})


_STEPS: tuple[Steps, ...] = (_make, _replace, _beside_records, _remove, _make_again)


def scribble(factory: MetaFactory, seed: str) -> None:
    """Set and remove notes until killed, telling of each before and after."""
    notes = needs_notes(factory.create())
    chance = random.Random(seed)
    for number in itertools.count():
        name = chance.choice(_NAMES)
        text = None if chance.random() < 0.2 else f"{number} " * chance.choice((1, 10, 9000))
        say((name, text))
        notes.set_note(name, text)
        say("done")


class KeptNoteTests(MetaSuite):
    @clause("META-65")
    def test_notes_are_there_when_the_store_is_opened_again(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        notes = needs_notes(meta)
        for name in _NAMES:
            notes.set_note(name, f"first {name}")
        notes.set_note("b", "second")
        notes.set_note("c", None)
        meta.close()

        assert {"a": "first a", "b": "second"} == needs_notes(open_meta()).get_notes()

    @clause("META-65", level=Level.DURABLE)
    def test_a_note_that_was_acknowledged_to_a_process_that_is_killed_is_there(
        self, meta: MetaBackend, meta_factory: MetaFactory, open_meta: OpenMeta, profile: Profile, seed: int
    ) -> None:
        needs_capability(meta.capabilities, "processes")
        notes, chance = needs_notes(meta), random.Random(seed)
        for round_ in range(profile.kills):
            before = dict(notes.get_notes())
            with children(1) as (child,):
                child.begin(scribble, meta_factory, f"{seed} {round_}")
                said = [*_heard(child, 2 * chance.randint(3, 40) + 1), *child.kill()]
            expected, under_way = _told(before, said)

            reopened = open_meta()
            assert needs_notes(reopened).get_notes() in (expected, under_way)
            assert needs_notes(reopened).get_notes() == notes.get_notes()
            reopened.close()

    @clause("META-65", level=Level.DURABLE)
    def test_a_note_that_was_acknowledged_survives_a_power_cut_at_any_moment(
        self, meta: MetaBackend, stores: Stores[MetaFactory, MetaBackend]
    ) -> None:
        needs_notes(meta)
        cut_everywhere(self, stores, steps=_STEPS, ids=_NAMES, troubles=_troubles)

    @clause("META-65", "META-56", level=Level.NETWORK)
    def test_a_note_that_was_acknowledged_survives_a_restart(self, meta: MetaBackend, profile: Profile) -> None:
        notes = needs_notes(meta)
        needs(self, "restart_server")
        notes.set_note("gone", "x")
        for number in range(profile.restarts):
            notes.set_note("gone", None)
            notes.set_note("a", f"{number}")

            self.restart_server()

            assert {"a": f"{number}"} == soon(notes.get_notes)


def _heard(child: Child, lines: int) -> list[object]:
    with suppress(EOFError):
        return [child.line() for _ in range(lines)]
    return []


def _told(before: dict[str, str], said: list[object]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what was acknowledged, and what came of it if the last change was made that was not."""
    acknowledged, under_way = before, before
    for each in said:
        if each == "done":
            acknowledged = under_way
            continue
        name, text = cast("tuple[str, str | None]", each)
        under_way = {**acknowledged, name: text or ""}
        if text is None:
            del under_way[name]
    return acknowledged, under_way


def _troubles(meta: MetaBackend, name: str, recorded: Recorded[Text], image: Image) -> list[str]:
    may_be = {each.text for each in recorded.may_be(name, image, Text(None), lambda _: True)}
    found = needs_notes(meta).get_notes().get(name)
    if found in may_be:
        return []
    shown = [each if each is None else each[:9] for each in may_be]
    return [f"note {name} is {found!r:.30}, expected one of {shown}; cut in step {image.step}, {image.kind}"]
