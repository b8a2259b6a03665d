"""Which messages to claim next: those that can begin, fairly by route, by priority, and now and then by age alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from retryspool.meta import MetaBackend, keeps_contract
from retryspool.model import MessageMetadata, State
from retryspool.queue.lanes import Lanes
from retryspool.queue.options import QueueOptions
from retryspool.queue.turns import Turns

__all__ = ["Claiming"]

_NONE: frozenset[str] = frozenset()


class Claiming:
    """Claims for one worker. For one thread."""

    def __init__(self, meta: MetaBackend, options: QueueOptions, lanes: Lanes, owner: str) -> None:
        self._meta = meta
        self._lease = timedelta(seconds=options.lease_s)
        self._lanes = lanes
        self._owner = owner
        self._turns = Turns()
        self._probed = _NONE
        # A backend written for version 1.0 of the contract knows of no order but priority.
        self._ageing = options.ageing if keeps_contract(meta, "1.1") else 0.0
        self._aged = 0.0
        self.is_all = False
        """Whether the last claim took all that's due and not passed over."""
        self.has_passed_over = False
        """Whether the last claim passed over any route."""

    def claim(self, sources: Sequence[State], limit: int, paused: frozenset[str]) -> list[MessageMetadata]:
        """Claim up to `limit` messages, and not those of paused routes."""
        claimed: list[MessageMetadata] = []
        self._lanes.forgo_probes(self._probed)  # the last claim didn't find any message of these
        self._probed = self._lanes.probes()
        if self._probed:
            self.is_all = False
            others = self._lanes.but_for(self._probed)
            self._claim(sources, min(limit, len(self._probed)), others, paused, claimed)
            return claimed
        passed_over = self._lanes.exclusions()
        self.has_passed_over = bool(passed_over or paused)
        self._claim(sources, limit, passed_over, self._turns.exclusions() | paused, claimed)
        self._turns.note(claimed)
        if len(claimed) < limit and self._turns.begin_anew():
            # What is left may be of routes that had their turn in this round, and it's time for the next.
            before = len(claimed)
            self._claim(sources, limit, passed_over, paused, claimed)
            self._turns.note(claimed[before:])
        self.is_all = len(claimed) < limit
        return claimed

    def _claim(
        self,
        sources: Sequence[State],
        limit: int,
        passed_over: frozenset[str],
        excluded: frozenset[str],
        claimed: list[MessageMetadata],
    ) -> None:
        """Claim until there are `limit`, but for excluded routes; of those that are passed over only bounces.

        A bounce goes elsewhere than to its route, and doesn't wait for it.
        """
        if not passed_over or State.BOUNCE not in sources:
            self._add(sources, limit, passed_over | excluded, claimed)
            return
        others: list[State] = [state for state in sources if state is not State.BOUNCE]
        parts = [([State.BOUNCE], excluded), (others, passed_over | excluded)]
        if sources[0] is not State.BOUNCE:
            parts.reverse()
        for states, without in parts:
            self._add(states, limit, without, claimed)

    def _add(
        self, sources: Sequence[State], limit: int, excluded: frozenset[str], claimed: list[MessageMetadata]
    ) -> None:
        if not sources or len(claimed) >= limit:
            return
        try:
            claimed += self._ask(sources, limit - len(claimed), excluded)
        except Exception:
            if not claimed:
                raise
            # What is claimed has to be handed out; what's wrong will be said by the next claim.

    def _ask(self, sources: Sequence[State], limit: int, excluded: frozenset[str]) -> list[MessageMetadata]:
        order: dict[str, Any] = {}
        self._aged += self._ageing
        if self._aged >= 1:
            self._aged -= 1
            order["oldest_first"] = True
        return self._meta.claim(
            sources, limit=limit, lease=self._lease, owner=self._owner, exclude_routes=excluded, **order
        )
