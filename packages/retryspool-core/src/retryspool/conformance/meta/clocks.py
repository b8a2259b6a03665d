"""One clock decides what is due: the store's, where it has one, else that of the machine that calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from retryspool.conformance.another_clock import call_by_another_clock
from retryspool.conformance.marks import clause
from retryspool.conformance.meta.acting import HOUR, WORK, claim, ids, record_of, store
from retryspool.conformance.meta_suite import MetaSuite
from retryspool.conformance.suite import needs_capability
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.model import MessageMetadata, State, utc_now

__all__ = ["ClockTests"]


@dataclass(frozen=True, slots=True)
class _Away:
    """What a machine with another clock came to."""

    now: datetime
    stored: MessageMetadata
    claimed: list[MessageMetadata]
    renewed: list[MessageMetadata]


def _work_away(factory: MetaFactory) -> _Away:
    with factory.create() as meta:
        stored = store(meta, "new", state=State.HOLD)
        claimed = meta.claim(WORK, limit=9, lease=HOUR, owner="away")
        return _Away(utc_now(), stored, claimed, [record_of(each) for each in meta.renew(claimed, lease=2 * HOUR)])


class ClockTests(MetaSuite):
    @pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
    @clause("META-26", "META-6", "META-18", "META-22")
    def test_a_machine_whose_clock_is_wrong_goes_by_the_clock_that_the_backend_says(
        self, meta: MetaBackend, meta_factory: MetaFactory, clock: Callable[[], datetime], ahead: timedelta
    ) -> None:
        needs_capability(meta.capabilities, "processes")
        now, half = clock(), HOUR / 2
        lease = {"state": State.ACTIVE, "claimed_from": State.INCOMING, "lease_owner": "w"}
        for message_id, due in {"old": -3 * HOUR, "due": -half, "later": half}.items():
            store(meta, message_id, next_retry=now + due)
        store(meta, "lost", lease_expires=now - half, **lease)
        store(meta, "held", lease_expires=now + half, **lease)

        before = clock()
        away = call_by_another_clock(ahead, _work_away, meta_factory)
        after = clock()

        assert isinstance(away, _Away)
        assert abs(away.now - utc_now() - ahead) < HOUR / 4, "the suite couldn't put the clock of that process wrong"
        off = timedelta(0) if meta.capabilities.server_clock else ahead
        due_by_then = {timedelta(0): {"due", "lost"}, HOUR: {"due", "lost", "later", "held"}, -HOUR: set[str]()}
        assert {"old", *due_by_then[off]} == set(ids(away.claimed))
        for length, records in ((HOUR, away.claimed), (2 * HOUR, away.renewed)):
            for record in records:
                assert before + off + length <= record.lease_expires <= after + off + length
        assert before + off <= away.stored.updated <= after + off
        assert away.stored.created == away.stored.updated

    @clause("META-26", "META-24")
    def test_a_clock_that_is_ahead_takes_no_lease_for_over_where_the_store_has_one(
        self, meta: MetaBackend, meta_factory: MetaFactory, clock: Callable[[], datetime]
    ) -> None:
        needs_capability(meta.capabilities, "processes")
        needs_capability(meta.capabilities, "server_clock")
        store(meta, "a")
        (claimed,) = claim(meta, lease=HOUR / 2)

        away = call_by_another_clock(HOUR, _work_away, meta_factory)

        assert isinstance(away, _Away)
        assert [] == away.claimed
        assert claimed == meta.get_meta("a")
        assert claimed.lease_expires > clock()
