"""What becomes of a message: the rules, as pure functions from an outcome to the write that settles it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from retryspool import records
from retryspool.errors import Concern
from retryspool.meta import Delete, Update
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State
from retryspool.queue.counters import CounterName
from retryspool.queue.losses import count_losses, heard_of, was_lost_alone, without_losses
from retryspool.queue.options import QueueOptions
from retryspool.queue.policy import Policies

__all__ = [
    "BOUNCE_ERROR_HEADER",
    "MAX_ERROR_LENGTH",
    "Failed",
    "GivenUp",
    "Outcome",
    "PutOff",
    "Released",
    "Rules",
    "SetAside",
    "Settlement",
    "Succeeded",
    "error_text",
    "storable",
]

MAX_ERROR_LENGTH = 1000
"""How much is kept of an error's text, in characters."""

BOUNCE_ERROR_HEADER = "x-retryspool-bounce-error"
"""Why a bounce handler failed. `last_error` goes on saying why the message bounced: its handler needs that again."""

_LONGEST = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned."""

    headers: dict[str, str] | None = None
    """The message's headers, where the handler has changed them."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised."""

    error: str
    permanent: bool = False
    after: timedelta | None = None
    """The delay that the handler asked for; the retry policy's if None."""
    headers: dict[str, str] | None = None
    """The message's headers, where the handler has changed them."""
    concerns: Concern = "route"
    """Whose failure it is."""
    route_is_out: bool = False
    """Its destination takes nothing now, the handler has said; for so long as `after`, if that's given."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """No handler can be run, now or later: the payload is gone, or too many workers have died with it."""

    error: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """No handler can be run now: none takes the message, or its payload can't be read. Not counted."""

    error: str = ""
    """Why; nothing if it waits where it was, as if it hadn't been claimed."""


@dataclass(frozen=True, slots=True)
class Released:
    """The worker stops: the message goes back as if it hadn't been claimed."""


@dataclass(frozen=True, slots=True)
class PutOff:
    """It can't begin for a while, for its destination's sake or its own, and waits for that. Not counted."""

    error: str
    after: timedelta


Outcome = Succeeded | Failed | GivenUp | SetAside | Released | PutOff


@dataclass(frozen=True, slots=True)
class Settlement:
    """The write that settles a message, and what to count once it's done."""

    write: Update | Delete
    counts: tuple[CounterName, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of messages in a queue."""

    options: QueueOptions
    policies: Policies

    def given_up(self, record: MessageMetadata) -> GivenUp | None:
        """Return why a message that was just claimed isn't to be handled: its deliveries are used up.

        Those that were lost are its own fault only if it was alone in its worker when the last of them was.
        """
        lost = count_losses(record)
        if self._chances(record, lost) > 0 or (lost and not was_lost_alone(record)):
            return None
        if record.claimed_from is State.BOUNCE:
            return GivenUp(f"{record.deliveries - 1} deliveries to bounce handlers without success")
        return GivenUp(
            f"{lost} deliveries were lost: each time its worker died, or lost its lease, before the end, "
            "at last while nothing else was under way in it"
        )

    def is_last_chance(self, record: MessageMetadata) -> bool:
        """Tell whether a message that was just claimed is given up if this delivery is lost like those before."""
        lost = count_losses(record)
        return lost > 0 and self._chances(record, lost) <= 1

    def _chances(self, record: MessageMetadata, lost: int) -> int:
        """Return how many deliveries may be lost from here on, this one included."""
        if record.claimed_from is State.BOUNCE:
            return self._max_attempts(record) + 1 - record.deliveries
        return self.options.max_lost_deliveries - lost

    def settle(self, record: MessageMetadata, outcome: Outcome, now: datetime) -> Settlement:
        """Return how a claimed message is settled."""
        match outcome:
            case Released() | SetAside() | PutOff():
                return self._returned(record, outcome, now)
            case _ if record.claimed_from is State.BOUNCE:
                return self._settle_bounced(record, outcome, now)
            case Succeeded():
                return self._succeeded(record, outcome)
            case Failed():
                return self._failed(record, outcome, now)
            case GivenUp(error):
                return _update(record, _bounced(replace(_ended(record), last_error=error)), "bounced")
            case _:
                assert_never(outcome)

    def _succeeded(self, record: MessageMetadata, outcome: Succeeded) -> Settlement:
        if self.options.on_success == "delete":
            return Settlement(Delete(record.id, record.version), ("delivered",))
        done = replace(_ended(record, outcome.headers), state=State.ARCHIVED)
        return _update(record, done, "delivered", "archived")

    def _failed(self, record: MessageMetadata, outcome: Failed, now: datetime) -> Settlement:
        failed = replace(_ended(record, outcome.headers), attempts=record.attempts + 1, last_error=outcome.error)
        if outcome.permanent or failed.attempts >= self._max_attempts(record):
            return _update(record, _bounced(failed), "bounced")
        due = self._next_retry(record, outcome, failed.attempts, now)
        return _update(record, heard_of(replace(failed, state=State.DEFERRED, next_retry=due)), "deferred")

    def _settle_bounced(
        self, record: MessageMetadata, outcome: Succeeded | Failed | GivenUp, now: datetime
    ) -> Settlement:
        if isinstance(outcome, GivenUp):
            return _update(record, _with_bounce_error(_kept(_ended(record)), outcome.error))
        ended = _kept(_ended(record, outcome.headers))
        if isinstance(outcome, Failed):
            failed = _with_bounce_error(ended, outcome.error)
            if outcome.permanent or record.deliveries >= self._max_attempts(record):
                return _update(record, failed)
            due = self._next_retry(record, outcome, record.deliveries, now)
            return _update(record, heard_of(replace(failed, next_retry=due)), "deferred")
        if self.options.on_bounce == "delete":
            return Settlement(Delete(record.id, record.version), ("bounces_handled",))
        if self.options.on_bounce == "archive":
            return _update(record, replace(ended, state=State.ARCHIVED), "bounces_handled", "archived")
        return _update(record, ended, "bounces_handled")

    def _next_retry(self, record: MessageMetadata, failed: Failed, attempt: int, now: datetime) -> datetime:
        delay = failed.after
        return _later(now, self.policies.delay(record.retry_policy_name, attempt) if delay is None else delay)

    def _returned(self, record: MessageMetadata, outcome: Released | SetAside | PutOff, now: datetime) -> Settlement:
        back = records.released(record)
        if isinstance(outcome, Released):
            return _update(record, back, "released")
        if isinstance(outcome, PutOff):
            back = replace(back, next_retry=_later(now, outcome.after))
            if back.state is not State.BOUNCE:  # there it would go to the ordinary handlers
                back = replace(back, state=State.DEFERRED, last_error=outcome.error)
            return _update(record, back, "put_off")
        due = _later(now, timedelta(seconds=self.options.unhandled_delay_s))
        if not outcome.error:
            back = replace(back, next_retry=due)
        elif back.state is State.BOUNCE:
            back = _with_bounce_error(replace(back, next_retry=due), outcome.error)
        else:
            back = replace(back, next_retry=due, state=State.DEFERRED, last_error=outcome.error)
        return _update(record, back, "set_aside")

    def _max_attempts(self, record: MessageMetadata) -> int:
        return record.max_attempts or self.options.max_attempts  # the Go system's records may have none


def _update(record: MessageMetadata, new: MessageMetadata, *counts: CounterName) -> Settlement:
    return Settlement(Update(new, if_version=record.version), counts)


def _kept(record: MessageMetadata) -> MessageMetadata:
    """Return it in `BOUNCE`, not due for bounce handlers any more."""
    return replace(record, state=State.BOUNCE, next_retry=NEVER)


def _ended(record: MessageMetadata, headers: dict[str, str] | None = None) -> MessageMetadata:
    return replace(
        record,
        headers=without_losses(record.headers if headers is None else headers),
        lease_owner="",
        lease_expires=ZERO_TIME,
        claimed_from=None,
    )


def _bounced(record: MessageMetadata) -> MessageMetadata:
    """Return it in `BOUNCE`, due for bounce handlers at once; `deliveries` counts theirs from now on."""
    return replace(record, state=State.BOUNCE, deliveries=0, next_retry=ZERO_TIME)


def _with_bounce_error(record: MessageMetadata, error: str) -> MessageMetadata:
    return replace(record, headers={**record.headers, BOUNCE_ERROR_HEADER: error})


def _later(now: datetime, delay: timedelta) -> datetime:
    return now + min(max(delay, timedelta(0)), _LONGEST)


def error_text(error: BaseException) -> str:
    """Return an error as a record's `last_error` keeps it: one that every backend can store, of bounded length."""
    try:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except Exception:  # noqa: BLE001 -- whatever its __str__ raises, the message has to go on
        text = type(error).__name__
    return storable(text)


def storable(text: str) -> str:
    """Return text as every backend can store it, of bounded length."""
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return clean if len(clean) <= MAX_ERROR_LENGTH else f"{clean[: MAX_ERROR_LENGTH - 1]}…"
