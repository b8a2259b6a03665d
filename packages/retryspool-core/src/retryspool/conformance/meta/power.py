"""Power cuts under stores on local disks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta_suite import MetaSuite
from retryspool.conformance.power import cut_everywhere
from retryspool.conformance.powercut import Image, Recorded
from retryspool.conformance.stores import Stores
from retryspool.errors import CorruptRecordError, MessageNotFoundError
from retryspool.meta import Delete, MetaBackend, MetaFactory, Store, Update
from retryspool.model import MessageMetadata, State, replace

__all__ = ["PowerCutTests", "Then"]

LEASE = timedelta(hours=1)
IDS = ("a", "b", "c", "d", "e", "f")


@dataclass(frozen=True, slots=True)
class Then:
    """What a step made of a message, by a token in its headers; None where it was deleted."""

    token: str | None
    states: tuple[State, ...] = ()
    """Where it may be found: a claim need not survive, so that its message may be where it was."""
    durable: bool = True


def _message(message_id: str, token: str, state: State = State.INCOMING) -> MessageMetadata:
    return MessageMetadata(message_id, state=state, headers={"token": token}, last_error="x" * 5000)


def _store(meta: MetaBackend) -> dict[str, Then]:
    meta.store_meta("a", _message("a", "1"))
    return {"a": Then("1", (State.INCOMING,))}


def _store_batch(meta: MetaBackend) -> dict[str, Then]:
    meta.apply([Store(_message(each, "1", State.DEFERRED)) for each in "bcde"])
    return {each: Then("1", (State.DEFERRED,)) for each in "bcde"}


def _update(meta: MetaBackend) -> dict[str, Then]:
    meta.update_meta("a", _message("a", "2"))
    return {"a": Then("2", (State.INCOMING,))}


def _update_to_another_state(meta: MetaBackend) -> dict[str, Then]:
    meta.update_meta("a", _message("a", "3", State.HOLD))
    return {"a": Then("3", (State.HOLD,))}


def _move(meta: MetaBackend) -> dict[str, Then]:
    meta.move_to_state("a", State.HOLD, State.INCOMING)
    return {"a": Then("3", (State.INCOMING,))}


def _claim(meta: MetaBackend) -> dict[str, Then]:
    claimed = meta.claim([State.DEFERRED, State.INCOMING], limit=5, lease=LEASE, owner="w")
    found = {each.id: (State.ACTIVE, each.claimed_from or State.INCOMING) for each in claimed}
    tokens = {each.id: each.headers["token"] for each in claimed}
    return {each: Then(tokens[each], states, durable=False) for each, states in found.items()}


def _settle(meta: MetaBackend) -> dict[str, Then]:
    held = {record.id: record for record in meta.iter_messages(State.ACTIVE)}
    deferred = replace(held["d"], state=State.DEFERRED, headers={"token": "2"}, lease_owner="", claimed_from=None)
    meta.apply([Delete("b", held["b"].version), Delete("c", held["c"].version), Update(deferred, held["d"].version)])
    return {"b": Then(None), "c": Then(None), "d": Then("2", (State.DEFERRED,))}


def _delete(meta: MetaBackend) -> dict[str, Then]:
    meta.delete_meta("d")
    return {"d": Then(None)}


def _store_again(meta: MetaBackend) -> dict[str, Then]:
    meta.store_meta("b", _message("b", "9", State.BOUNCE))
    return {"b": Then("9", (State.BOUNCE,))}


STEPS: tuple[Callable[[MetaBackend], dict[str, Then]], ...] = (
    *(_store, _store_batch, _update, _update_to_another_state, _move, _claim, _settle, _delete, _store_again),
)


class PowerCutTests(MetaSuite):
    @clause("META-57", level=Level.DURABLE)
    def test_what_was_acknowledged_survives_a_power_cut_at_any_moment(
        self, stores: Stores[MetaFactory, MetaBackend]
    ) -> None:
        cut_everywhere(self, stores, steps=STEPS, ids=IDS, troubles=_troubles)


def _troubles(meta: MetaBackend, message_id: str, recorded: Recorded[Then], image: Image) -> list[str]:
    """Return what is wrong with a message after a cut: nothing, or one line."""
    may_be = recorded.may_be(message_id, image, Then(None), lambda then: then.durable)
    found: Then | str
    try:
        record = meta.get_meta(message_id)
        found = Then(record.headers["token"], (record.state,))
        fits = any(found.token == each.token and record.state in each.states for each in may_be)
    except MessageNotFoundError:
        found, fits = "not there", any(each.token is None for each in may_be)
    except CorruptRecordError:
        found, fits = "corrupt", any(each.token is None for each in may_be)
    if fits:
        return []
    return [f"{message_id} is {found}, expected one of {may_be}; cut in step {image.step}, {image.kind}"]
