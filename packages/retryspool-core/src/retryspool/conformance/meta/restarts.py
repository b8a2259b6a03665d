"""Restarts of the server, under load."""

from __future__ import annotations

from retryspool.conformance.attempts import is_given_up, result_of, soon
from retryspool.conformance.loading import Ledger, loaded
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs
from retryspool.meta import MetaBackend
from retryspool.model import MessageMetadata, State

__all__ = ["RestartTests"]

_WORKERS = 4


class RestartTests(MetaSuite):
    @clause("META-56", level=Level.NETWORK)
    def test_restarts_under_load_lose_nothing_that_was_acknowledged(
        self, meta: MetaBackend, open_meta: OpenMeta, profile: Profile
    ) -> None:
        needs(self, "restart_server")
        ledgers = [Ledger[State]() for _ in range(_WORKERS)]

        def live(ledger: Ledger[State], message_id: str) -> None:
            """Store a message, put it on hold, and delete every third."""
            if not ledger.attempt(
                message_id, State.INCOMING, lambda: meta.store_meta(message_id, MessageMetadata(message_id))
            ):
                return
            if not ledger.attempt(
                message_id, State.HOLD, lambda: meta.move_to_state(message_id, State.INCOMING, State.HOLD)
            ):
                return
            if message_id.endswith(("0", "3", "6", "9")):
                ledger.attempt(message_id, None, lambda: meta.delete_meta(message_id))

        with loaded(ledgers, live, self.restart_server) as restart:
            for _ in range(profile.restarts):
                restart()

        found = {message_id: record.state for message_id, record in soon(lambda: everything(open_meta())).items()}
        assert [] == [wrong for ledger in ledgers for wrong in ledger.compare(found)]
        assert set() == set(found) - {message_id for ledger in ledgers for message_id in ledger.possible}

    @clause("META-56", level=Level.NETWORK)
    def test_what_was_opened_before_a_restart_goes_on_or_fails(self, meta: MetaBackend) -> None:
        needs(self, "restart_server")
        ids = {f"m{number}" for number in range(9)}
        for message_id in ids:
            meta.store_meta(message_id, MessageMetadata(message_id))
        iteration = meta.iter_messages(State.INCOMING, 2)
        first = next(iteration)

        self.restart_server()

        rest = result_of(lambda: [record.id for record in iteration], limit_s=2.0)
        assert is_given_up(rest) or (isinstance(rest, list) and sorted(ids) == sorted([first.id, *rest])), repr(rest)
        assert ids == set(soon(lambda: everything(meta)))
