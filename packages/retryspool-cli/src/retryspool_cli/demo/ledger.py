"""The audit: what was accepted against what arrived and what is still there, by the receiver's own log."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from retryspool import MessageNotFoundError, Queue, State
from retryspool_cli.demo.receiver import read_log

__all__ = ["Ledger", "audit"]


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where every message is. Each of the sets holds ids."""

    accepted: Collection[str]
    """What `enqueue` returned."""
    delivered: set[str]
    """Answered by the receiver with success, and logged by it."""
    twice: set[str]
    """… more than once."""
    may_repeat: Collection[str]
    """Under the killed worker's lease when it was killed, or delivered when a killed server couldn't be told: these,
    and only these, may arrive twice."""
    bounced: set[str]
    """In BOUNCE, their payload whole."""
    waiting: set[str]
    """In another state than BOUNCE and ARCHIVED."""
    damaged: set[str]
    """Arrived, or kept, with other bytes than were handed in."""
    strangers: set[str] = field(default_factory=set[str])
    """Arrived, and were never accepted."""

    @property
    def lost(self) -> set[str]:
        """Accepted, and neither delivered nor there any more."""
        return set(self.accepted) - self.delivered - self.bounced - self.waiting

    @property
    def unexplained(self) -> set[str]:
        """Delivered twice without a kill as the reason."""
        return self.twice - set(self.may_repeat)

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.unexplained or self.damaged or self.strangers or self.waiting)


def audit(queue: Queue, accepted: Mapping[str, str], log: Path, may_repeat: Collection[str]) -> Ledger:
    """Compare.

    :param accepted: the SHA-256 of each payload as it was handed in, by the id that `enqueue` returned
    :param log: the receiver's
    :param may_repeat: what may have arrived twice, because of a kill
    """
    delivered: Counter[str] = Counter()
    damaged: set[str] = set()
    for taken in read_log(log):
        if taken.status == 200:  # noqa: PLR2004 -- success
            delivered[taken.message_id] += 1
            if accepted.get(taken.message_id) != taken.sha256:
                damaged.add(taken.message_id)
    bounced: set[str] = set()
    waiting: set[str] = set()
    for message_id in accepted:
        try:
            state = queue.get(message_id).state
        except MessageNotFoundError:
            continue
        if state is State.BOUNCE:
            bounced.add(message_id)
            with queue.open_payload(message_id) as payload:
                if hashlib.sha256(payload.read()).hexdigest() != accepted[message_id]:
                    damaged.add(message_id)
        elif state is not State.ARCHIVED:
            waiting.add(message_id)
    return Ledger(
        accepted=accepted.keys(),
        delivered=set(delivered) & accepted.keys(),
        twice={message_id for message_id, count in delivered.items() if count > 1},
        may_repeat=may_repeat,
        bounced=bounced,
        waiting=waiting,
        damaged=damaged & accepted.keys(),
        strangers=set(delivered) - accepted.keys(),
    )
