"""Notes, of the backends that keep them: short texts that belong to a store, and to all who have it open."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.finishing import Running, finish
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import claim, populated, store
from retryspool.conformance.meta_suite import MetaSuite, NewMeta, OpenMeta, needs_notes
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.deadline import deadline
from retryspool.errors import BackendClosedError, DeadlineExceededError, InvalidOptionError, MessageNotFoundError
from retryspool.meta import MetaBackend, StateCounter
from retryspool.model import MessageMetadata, State

__all__ = ["NoteTests"]

_LONG_S = 60.0
_MOST = 64 * 1024
_NAMES: tuple[str, ...] = ("pause", "pause.routes", "A", "a", "a.txt", "a.tmp.b", "CON", "x@y=z+1-2_3.", "0", "n" * 200)
_TEXTS = ("", " ", "\n", "x\n", "a\r\nb", "\t{}", "ä€😀", "\x7f\x01", "x" * _MOST, "€" * (_MOST // 3))
_WRONG = (
    *(("", "x"), (".a", "x"), ("../a", "x"), ("a/b", "x"), ("two words", "x"), ("ä", None), ("n" * 201, None)),
    *(("a", "a\0b"), ("a", "\ud800"), ("a", "x" * (_MOST + 1)), ("a", "€" * (_MOST // 3 + 1))),
)


class NoteTests(MetaSuite):
    @clause("META-61")
    def test_a_backend_has_both_methods_of_notes_or_neither(self, meta: MetaBackend) -> None:
        has = [callable(getattr(meta, name, None)) for name in ("get_notes", "set_note")]

        assert has in ([True, True], [False, False])

    # -- what is kept --------------------------------------------------------------------------------------------------

    @clause("META-61")
    def test_a_note_is_what_was_set_last_until_it_is_removed(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        notes, other = needs_notes(meta), needs_notes(open_meta())
        assert {} == notes.get_notes()

        notes.set_note("a", "1")
        other.set_note("b", "2")
        assert {"a": "1", "b": "2"} == notes.get_notes() == other.get_notes()
        other.set_note("a", "a longer text")
        assert {"a": "a longer text", "b": "2"} == notes.get_notes()
        notes.set_note("a", "3")
        assert {"a": "3", "b": "2"} == other.get_notes()
        other.set_note("a", None)
        assert {"b": "2"} == notes.get_notes() == other.get_notes()
        notes.set_note("b", None)
        assert {} == other.get_notes()

    @clause("META-61")
    def test_to_remove_what_is_not_there_is_no_error(self, meta: MetaBackend) -> None:
        notes = needs_notes(meta)
        notes.set_note("b", "x")

        notes.set_note("a", None)

        assert {"b": "x"} == notes.get_notes()

    @clause("META-61")
    def test_every_name_and_every_text_comes_back(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        notes = needs_notes(meta)
        kept = dict(zip(_NAMES, _TEXTS, strict=True))
        for name, text in kept.items():
            notes.set_note(name, text)

        assert kept == dict(notes.get_notes()) == dict(needs_notes(open_meta()).get_notes())

    @clause("META-61")
    def test_any_sequence_of_changes_leaves_what_it_leaves_in_a_dictionary(
        self, meta: MetaBackend, profile: Profile, seed: int
    ) -> None:
        notes = needs_notes(meta)
        names = st.sampled_from(_NAMES)
        texts = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)

        def check(changes: list[tuple[str, str | None]]) -> None:
            model: dict[str, str] = {}
            for name, text in changes:
                notes.set_note(name, text)
                model |= {name: text or ""}
                if text is None:
                    del model[name]
                assert model == notes.get_notes()
            for name in model:
                notes.set_note(name, None)

        explore(st.lists(st.tuples(names, texts), max_size=10), check, examples=profile.examples, seed=seed)

    # -- what they aren't ----------------------------------------------------------------------------------------------

    @clause("META-62")
    def test_notes_are_no_messages(self, meta: MetaBackend) -> None:
        notes = needs_notes(meta)
        stored = store(meta, "a", headers={"k": "v"})
        notes.set_note("a", "x")
        notes.set_note("b", "y")

        assert {State.INCOMING: ["a"]} == populated(meta)
        assert stored == meta.get_meta("a")
        assert not isinstance(meta, StateCounter) or meta.get_state_count(State.INCOMING) == 1
        with pytest.raises(MessageNotFoundError):
            meta.get_meta("b")
        assert 1 == store(meta, "b").version
        assert 2 == len(claim(meta))
        meta.delete_meta("a")
        meta.delete_meta("b")
        assert {"a": "x", "b": "y"} == notes.get_notes()
        notes.set_note("a", None)
        assert {} == populated(meta)

    @clause("META-62")
    def test_notes_of_one_store_are_not_those_of_another(self, meta: MetaBackend, new_meta: NewMeta) -> None:
        notes, other = needs_notes(meta), needs_notes(new_meta())

        notes.set_note("a", "x")
        assert {} == other.get_notes()
        other.set_note("a", "y")
        other.set_note("a", None)
        assert {"a": "x"} == notes.get_notes()

    # -- what is refused -----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(("name", "text"), _WRONG, ids=lambda each: repr(each)[:20])
    @clause("META-63")
    def test_a_note_that_cannot_be_kept_is_refused_and_changes_nothing(
        self, meta: MetaBackend, name: str, text: str | None
    ) -> None:
        notes = needs_notes(meta)
        notes.set_note("a", "x")

        with pytest.raises(InvalidOptionError):
            notes.set_note(name, text)

        assert {"a": "x"} == notes.get_notes()

    @clause("META-63")
    def test_a_closed_backend_keeps_no_notes(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        notes = needs_notes(meta)
        notes.set_note("a", "x")
        meta.close()

        with pytest.raises(BackendClosedError):
            finish(notes.get_notes)
        for text in ("y", None):
            with pytest.raises(BackendClosedError):
                finish(partial(notes.set_note, "a", text))
        assert {"a": "x"} == needs_notes(open_meta()).get_notes()

    @clause("META-63")
    def test_a_deadline_that_has_passed_leaves_notes_alone(self, meta: MetaBackend) -> None:
        notes = needs_notes(meta)
        notes.set_note("a", "x")

        with deadline(0), pytest.raises(DeadlineExceededError):
            finish(notes.get_notes)
        for text in ("y", None):
            with deadline(0), pytest.raises(DeadlineExceededError):
                finish(partial(notes.set_note, "a", text))
        assert {"a": "x"} == notes.get_notes()

    # -- who is told ---------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("change", ["a new note", "another text", "a removal"])
    @clause("META-64", level=Level.CONCURRENT)
    def test_a_note_that_changes_ends_the_waiting_of_others(
        self, meta: MetaBackend, open_meta: OpenMeta, change: str
    ) -> None:
        other = needs_notes(open_meta())
        other.set_note("a", "x")
        _hear_all(meta)

        waiting = Running(lambda: meta.wait_for_change(_LONG_S))
        other.set_note("b" if change == "a new note" else "a", None if change == "a removal" else "y")

        assert waiting.result()

    @clause("META-64")
    def test_a_note_that_changed_since_the_last_wait_is_not_missed(
        self, meta: MetaBackend, open_meta: OpenMeta
    ) -> None:
        other = needs_notes(open_meta())
        for number in range(3):
            _hear_all(meta)
            other.set_note("a", f"{number}")
            assert {"a": f"{number}"} == needs_notes(meta).get_notes()  # to look takes no change from who waits

            assert finish(lambda: meta.wait_for_change(_LONG_S))

    # -- at once -------------------------------------------------------------------------------------------------------

    @clause("META-61", level=Level.CONCURRENT)
    def test_a_reader_never_sees_a_mix_of_two_texts_nor_none(
        self, meta: MetaBackend, open_meta: OpenMeta, profile: Profile
    ) -> None:
        notes = needs_notes(meta)
        instances = [notes, needs_notes(open_meta())]
        texts = [f"{racer}" * length for racer, length in enumerate((1, 40_000, 300, 65_536))]
        notes.set_note("a", texts[0])
        over = threading.Event()

        def run(racer: int) -> int:
            each = instances[racer % 2]
            if racer < len(texts):
                for _ in range(profile.examples):
                    each.set_note("a", texts[racer])
                over.set()
                return 1
            while not over.is_set():
                assert each.get_notes().get("a") in texts
            return 1

        assert [1] * 6 == race(6, run)
        assert notes.get_notes()["a"] in texts

    @clause("META-61", level=Level.CONCURRENT)
    def test_threads_set_notes_beside_records(self, meta: MetaBackend, profile: Profile) -> None:
        notes = needs_notes(meta)

        def live(racer: int) -> int:
            for number in range(5):
                notes.set_note(f"n{racer}", f"{number}")
                store(meta, f"m{racer}-{number}")
                meta.update_meta(f"m{racer}-{number}", MessageMetadata(f"m{racer}-{number}", state=State.HOLD))
                assert f"{number}" == notes.get_notes()[f"n{racer}"]
            return 1

        assert [1] * profile.racers == race(profile.racers, live)
        assert {f"n{racer}": "4" for racer in range(profile.racers)} == notes.get_notes()
        assert 5 * profile.racers == len(populated(meta)[State.HOLD])


def _hear_all(meta: MetaBackend) -> None:
    """Wait until nothing is news any more: or for a while, since a backend may always hint that something is."""
    for _ in range(5):
        if not meta.wait_for_change(0.2):
            return
