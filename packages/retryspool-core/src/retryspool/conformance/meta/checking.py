"""Findings, and the formats of former versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from retryspool.conformance.marks import clause
from retryspool.conformance.meta.acting import HOUR, claim, fill, ids, populated, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.stores import Stores
from retryspool.conformance.suite import needs, needs_no_capability
from retryspool.meta import MetaBackend, MetaFactory, StateCounter
from retryspool.model import NOT_DURABLE, Finding, MessageMetadata, Severity, State

__all__ = ["CheckTests"]


class CheckTests(MetaSuite):
    @clause("META-51")
    def test_findings_change_nothing(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        for state in State:
            store(meta, state.label, state=state, headers={"k": "v"})
        claim(meta, lease=HOUR)
        before, listed = everything(meta), populated(meta)
        counts = _counts(meta)

        first = [finding.subject for finding in meta.check()]
        second = [finding.subject for finding in meta.check()]

        assert first == second
        assert (before, listed, counts) == (everything(meta), populated(meta), _counts(meta))
        assert before == everything(open_meta())

    @clause("META-51")
    def test_a_finding_says_what_it_is_about_and_what_to_do(self, meta: MetaBackend) -> None:
        store(meta, "a")

        for finding in meta.check():
            assert isinstance(finding, Finding)
            assert isinstance(finding.severity, Severity)
            assert finding.subject
            assert finding.text

    @clause("META-51", "META-40")
    def test_a_sound_message_is_no_finding(self, meta: MetaBackend) -> None:
        fill(meta, "abc")
        claim(meta, limit=1)

        assert {None} >= {finding.message_id for finding in meta.check()}

    @clause("META-51")
    def test_what_is_not_durable_says_so(self, meta: MetaBackend) -> None:
        needs_no_capability(meta.capabilities, "durable")

        assert NOT_DURABLE in list(meta.check())

    @clause("META-52")
    def test_every_old_format_is_read_as_what_it_was(self, stores: Stores[MetaFactory, MetaBackend]) -> None:
        needs(self, "old_formats")

        for name, write in self.old_formats().items():
            factory = stores.new()
            expected: Mapping[str, MessageMetadata] = write(stores.namespace_of(factory))
            meta = stores.open(factory)

            assert (name, dict(expected)) == (name, {message_id: meta.get_meta(message_id) for message_id in expected})
            assert (name, dict(expected)) == (name, everything(meta))
            assert not [finding for finding in meta.check() if finding.message_id in expected]

    @clause("META-52", "META-4")
    def test_what_was_stored_in_an_old_format_is_written_like_anything_else(
        self, stores: Stores[MetaFactory, MetaBackend]
    ) -> None:
        needs(self, "old_formats")

        for write in self.old_formats().values():
            factory = stores.new()
            expected: Mapping[str, MessageMetadata] = write(stores.namespace_of(factory))
            meta = stores.open(factory)
            written: dict[str, MessageMetadata] = {}
            for number, (message_id, record) in enumerate(sorted(expected.items())):
                if number % 2:
                    written[message_id] = meta.update_meta(
                        message_id, replace(record, size=7), if_version=record.version
                    )
                else:
                    to = State.HOLD if record.state is not State.HOLD else State.BOUNCE
                    written[message_id] = meta.move_to_state(message_id, record.state, to)
                assert record.version + 1 == written[message_id].version
            meta.close()

            assert written == everything(stores.open(factory))
            assert sorted(expected) == sorted(ids(written.values()))


def _counts(meta: MetaBackend) -> list[object]:
    if not isinstance(meta, StateCounter):
        return []
    return [(meta.get_state_count(state), meta.get_oldest_due(state)) for state in State]
