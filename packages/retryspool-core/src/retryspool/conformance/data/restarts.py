"""Restarts of the server, under load."""

from __future__ import annotations

from functools import partial

from retryspool.conformance.attempts import is_given_up, result_of, soon
from retryspool.conformance.data_suite import DataSuite, OpenData, read, sizes
from retryspool.conformance.loading import Ledger, loaded
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs
from retryspool.data import DataBackend

__all__ = ["RestartTests"]

_WORKERS = 4
_LARGE = b"large " * 200_000


class RestartTests(DataSuite):
    @clause("DATA-37", level=Level.NETWORK)
    def test_restarts_under_load_lose_nothing_that_was_acknowledged(
        self, data: DataBackend, open_data: OpenData, profile: Profile
    ) -> None:
        needs(self, "restart_server")
        ledgers = [Ledger[bytes]() for _ in range(_WORKERS)]

        def live(ledger: Ledger[bytes], message_id: str) -> None:
            """Store a payload, replace it, and delete every third."""
            for content in (b"first of %b" % message_id.encode(), b"second of %b" % message_id.encode() * 50):
                if not ledger.attempt(message_id, content, partial(data.store_data, message_id, content)):
                    return
            if message_id.endswith(("0", "3", "6", "9")):
                ledger.attempt(message_id, None, lambda: data.delete_data(message_id))

        with loaded(ledgers, live, self.restart_server) as restart:
            for _ in range(profile.restarts):
                restart()

        again = open_data()
        found = {message_id: read(again, message_id) for message_id in soon(lambda: sizes(again))}
        assert [] == [wrong for ledger in ledgers for wrong in ledger.compare(found)]
        assert set() == set(found) - {message_id for ledger in ledgers for message_id in ledger.possible}

    @clause("DATA-37", level=Level.NETWORK)
    def test_what_was_opened_before_a_restart_goes_on_or_fails(self, data: DataBackend) -> None:
        needs(self, "restart_server")
        data.store_data("there", _LARGE)
        reader = data.get_data_reader("there")
        begun = reader.read(1000)
        writer = data.get_data_writer("new")
        writer.write(_LARGE)

        self.restart_server()

        rest = result_of(reader.read, limit_s=5.0)
        assert is_given_up(rest) or (isinstance(rest, bytes) and _LARGE == begun + rest), f"{rest!r:.200}"
        closed = result_of(writer.close, limit_s=5.0)
        assert closed is None or is_given_up(closed), repr(closed)
        reader.close()
        stored = soon(lambda: sizes(data))
        assert {"there": len(_LARGE)} == {name: size for name, size in stored.items() if name != "new"}
        assert stored.get("new") == len(_LARGE) or (closed is not None and "new" not in stored), stored
