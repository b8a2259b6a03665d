"""Claims that take the oldest first, whatever its priority."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import HOUR, WORK, fill, forget, ids, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.meta import MetaBackend
from retryspool.model import MessageMetadata, State

__all__ = ["AgeingTests"]

_SOURCES = ([State.INCOMING, State.DEFERRED], [State.DEFERRED, State.INCOMING], [State.HOLD])
_ROUTES: tuple[str, ...] = ("", "a", "b")


def _claim_oldest(
    meta: MetaBackend, *sources: State, limit: int = 100, exclude_routes: Sequence[str] = ()
) -> list[MessageMetadata]:
    return meta.claim(
        sources or WORK, limit=limit, lease=HOUR, owner="w1", exclude_routes=exclude_routes, oldest_first=True
    )


class AgeingTests(MetaSuite):
    @clause("META-60")
    def test_the_oldest_goes_first_whatever_its_priority(
        self, meta: MetaBackend, open_meta: OpenMeta, clock: Callable[[], datetime]
    ) -> None:
        now = clock()
        for number, (priority, age) in enumerate([(5, 1), (0, 2), (5, 5), (1, 4), (100, 6), (5, 3)]):
            store(meta, f"{number}", priority=priority, next_retry=now - age * HOUR)
        store(meta, "never", priority=0, next_retry=now + HOUR)

        assert ["4", "2"] == ids(_claim_oldest(meta, limit=2))
        assert ["3", "5"] == ids(_claim_oldest(open_meta(), limit=2))
        assert ["1", "0"] == ids(meta.claim(WORK, limit=9, lease=HOUR, owner="w1"))  # and by priority as before

    @clause("META-60")
    def test_sources_still_go_in_their_order(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        now = clock()
        lost = {"state": State.ACTIVE, "claimed_from": State.INCOMING, "lease_owner": "dead"}
        store(meta, "d9", state=State.DEFERRED, priority=0, next_retry=now - 9 * HOUR)
        store(meta, "i1", priority=9, next_retry=now - HOUR)
        store(meta, "i2", priority=50, next_retry=now - 2 * HOUR)
        store(meta, "x1", priority=1, lease_expires=now - timedelta(minutes=1), **lost)
        store(meta, "x2", priority=7, lease_expires=now - timedelta(minutes=2), **lost)

        assert ["x2", "x1", "i2", "i1", "d9"] == ids(_claim_oldest(meta, State.INCOMING, State.DEFERRED))

    @clause("META-60")
    def test_of_those_due_at_once_the_smaller_id_goes_first(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        now = clock()
        for number, message_id in enumerate(["b", "B", "a", "b2", "a.x", "10", "9", "a-x", "a_"]):
            store(meta, message_id, priority=number % 4, route=_ROUTES[number % 3], next_retry=now)

        assert ["10", "9", "B", "a", "a-x", "a.x", "a_", "b", "b2"] == ids(_claim_oldest(meta))

    @clause("META-60")
    def test_any_claim_of_the_oldest_takes_what_sorting_by_hand_takes(
        self, meta: MetaBackend, clock: Callable[[], datetime], profile: Profile, seed: int
    ) -> None:
        now = clock()
        states = st.sampled_from([*WORK, State.HOLD])
        message = st.tuples(states, st.integers(0, 3), st.integers(-1, 4), st.sampled_from(_ROUTES))

        def check(example: tuple[list[tuple[State, int, int, str]], int, list[State], list[str]]) -> None:
            messages, limit, sources, excluded = example
            stored = [
                store(meta, f"m{number}", state=state, priority=priority, next_retry=now - age * HOUR, route=route)
                for number, (state, priority, age, route) in enumerate(messages)
            ]
            due = [each for each in stored if each.next_retry <= now and each.state in sources]
            due = [each for each in due if each.route not in excluded]
            due.sort(key=lambda each: (sources.index(each.state), each.next_retry, each.id))

            assert ids(due[:limit]) == ids(_claim_oldest(meta, *sources, limit=limit, exclude_routes=excluded))
            assert ids(due[limit:]) == ids(_claim_oldest(meta, *sources, exclude_routes=excluded))
            forget(meta, ids(stored))

        examples = st.tuples(
            st.lists(message, max_size=12),
            st.integers(1, 6),
            st.sampled_from(_SOURCES),
            st.lists(st.sampled_from(_ROUTES), max_size=2),
        )
        explore(examples, check, examples=profile.examples, seed=seed)

    @clause("META-60")
    def test_the_oldest_that_is_not_excluded_is_found_behind_any_number_that_are(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        past = clock() - HOUR
        fill(meta, [f"dead{number}" for number in range(150)], route="dead", next_retry=past - HOUR)
        for number in range(5):
            store(meta, f"fine{number}", route=f"r{number}", priority=9 - number, next_retry=past)

        claimed = ids(_claim_oldest(meta, exclude_routes=["dead", "r0"], limit=9))
        assert ["fine1", "fine2", "fine3", "fine4"] == claimed

    @clause("META-60", level=Level.CONCURRENT)
    def test_claims_of_either_order_share_the_messages_out(self, meta: MetaBackend, profile: Profile) -> None:
        names = [f"m{number:04}" for number in range(profile.messages)]
        few = max(3, profile.messages // 100)
        for number in range(4):
            fill(meta, names[number::4], priority=number)

        def take(racer: int) -> list[str]:
            taken: list[str] = []
            while claimed := meta.claim(WORK, limit=few, lease=HOUR, owner=f"w{racer}", oldest_first=racer % 2 == 0):
                taken += ids(claimed)
            return taken

        shares = race(profile.racers, take)
        assert names == sorted(each for share in shares if isinstance(share, list) for each in share)
