"""What the tests of networks do with records: each call on messages of its own, and how its answer is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from retryspool.conformance.attempts import is_given_up, soon
from retryspool.conformance.network import Change, Traffic, fresh
from retryspool.errors import BackendUnavailableError, MessageNotFoundError, StorageError
from retryspool.meta import Delete, MetaBackend, Move, StateCounter, Store, Update, Write
from retryspool.model import MessageMetadata, State, utc_now

__all__ = ["TRAFFIC", "MetaChange", "Records", "judge_write", "look"]

Records = Mapping[str, MessageMetadata | None]
"""Records by id; None for one that isn't there."""

_LEASE = timedelta(hours=1)
_OWNER = "network"


class _Left:
    def __repr__(self) -> str:
        return "<not mentioned>"


_LEFT = _Left()
"""What a claim says of a message that it doesn't return."""


@dataclass(frozen=True, slots=True)
class MetaChange(Change[MetaBackend, Records]):
    """One way to change records."""

    make: Callable[[MetaBackend, str], Records]
    """Prepare what it is to change."""
    call: Callable[[MetaBackend, Records], Mapping[str, object]]
    """Change it; return the answer for each id, that may be an error."""

    def prepare(self, backend: MetaBackend, prefix: str) -> Records:
        return self.make(backend, prefix)

    def run(self, backend: MetaBackend, before: Records) -> Mapping[str, object]:
        return self.call(backend, before)

    def judge(self, sound: MetaBackend, before: Records, answers: Mapping[str, object]) -> list[str]:
        return judge_write(before, {each: look(sound, each) for each in before}, answers)


def look(meta: MetaBackend, message_id: str) -> MessageMetadata | None:
    """Return a record, or None without one."""
    try:
        return meta.get_meta(message_id)
    except MessageNotFoundError:
        return None


def judge_write(before: Records, after: Records, answers: Mapping[str, object]) -> list[str]:
    """Return what is wrong with the answers, given what was there before and what is there now."""
    wrong: list[str] = []
    for message_id, old in before.items():
        new, answer = after[message_id], answers[message_id]
        fault = _wrong_effect(old, new) or _wrong_answer(old, new, answer)
        if fault:
            wrong.append(f"{message_id}: {fault}; before: {old}, after: {new}, answer: {answer!r}")
    return wrong


def _wrong_effect(old: MessageMetadata | None, new: MessageMetadata | None) -> str:
    if new is not None and new.version - (old.version if old else 0) not in {0, 1}:
        return "it was changed more than once"
    if new is not None and new.deliveries - (old.deliveries if old else 0) > 1:
        return "it was counted as delivered more than once"
    return ""


def _wrong_answer(old: MessageMetadata | None, new: MessageMetadata | None, answer: object) -> str:
    match answer:
        case BackendUnavailableError(outcome="none") | _Left():
            return "it was changed, and the caller doesn't know" if new != old else ""
        case StorageError():
            return "" if is_given_up(answer) else "nobody else has done anything; it must succeed, or be unavailable"
        case _ if new == old:
            return "it wasn't changed, and the caller believes it was"
        case _:
            return "" if answer == new else "the answer isn't the record as stored"


def _answers(before: Records, results: Sequence[object]) -> dict[str, object]:
    return dict(zip(before, results, strict=True))


def _store(meta: MetaBackend, before: Records) -> Mapping[str, object]:
    return {each: meta.store_meta(each, MessageMetadata(each, headers={"k": "v"})) for each in before}


def _incoming(meta: MetaBackend, prefix: str) -> Records:
    return {prefix: meta.store_meta(prefix, MessageMetadata(prefix))}


def _update(meta: MetaBackend, before: Records) -> Mapping[str, object]:
    return {
        each: meta.update_meta(each, MessageMetadata(each, size=7), if_version=record.version)
        for each, record in before.items()
        if record
    }


def _update_any(meta: MetaBackend, before: Records) -> Mapping[str, object]:
    return {each: meta.update_meta(each, MessageMetadata(each, size=7)) for each in before}


def _move(meta: MetaBackend, before: Records) -> Mapping[str, object]:
    return {each: meta.move_to_state(each, State.INCOMING, State.HOLD) for each in before}


def _delete(meta: MetaBackend, before: Records) -> Mapping[str, object]:
    for each in before:
        meta.delete_meta(each)
    return dict.fromkeys(before)


def _archived(meta: MetaBackend, prefix: str) -> Records:
    """Nothing else stores archived messages, so that claims of them are apart."""
    for left in list(meta.iter_messages(State.ARCHIVED)):  # by an earlier claim, that a later one would find
        meta.delete_meta(left.id)
    ids = [f"{prefix}-{number}" for number in range(3)]
    return {each: meta.store_meta(each, MessageMetadata(each, state=State.ARCHIVED)) for each in ids}


def _claim(meta: MetaBackend, before: Records) -> Mapping[str, object]:
    claimed = {record.id: record for record in meta.claim([State.ARCHIVED], limit=10, lease=_LEASE, owner=_OWNER)}
    return {each: claimed.get(each, _LEFT) for each in before}


def _claimed(meta: MetaBackend, prefix: str) -> Records:
    ids = [f"{prefix}-{number}" for number in range(2)]
    record = MessageMetadata(
        prefix,
        state=State.ACTIVE,
        lease_owner=_OWNER,
        lease_expires=utc_now() + _LEASE,
        claimed_from=State.BOUNCE,
        deliveries=1,
    )
    return {each: meta.store_meta(each, replace(record, id=each)) for each in ids}


def _renew(meta: MetaBackend, before: Records) -> Mapping[str, object]:
    return _answers(before, meta.renew([record for record in before.values() if record], lease=2 * _LEASE))


def _several(meta: MetaBackend, prefix: str) -> Records:
    present = [f"{prefix}-{name}" for name in ("updated", "moved", "deleted")]
    stored = {each: meta.store_meta(each, MessageMetadata(each)) for each in present}
    return {f"{prefix}-stored": None, **stored}


def _apply(meta: MetaBackend, before: Records) -> Mapping[str, object]:
    stored, updated, moved, deleted = before
    writes: list[Write] = [
        Store(MessageMetadata(stored)),
        Update(MessageMetadata(updated, size=7)),
        Move(moved, State.INCOMING, State.HOLD),
        Delete(deleted),
    ]
    return _answers(before, meta.apply(writes))


_WRITES: Mapping[str, MetaChange] = {
    "store_meta": MetaChange(lambda _, prefix: {prefix: None}, _store),
    "update_meta": MetaChange(_incoming, _update),
    "update_meta of any version": MetaChange(_incoming, _update_any),
    "move_to_state": MetaChange(_incoming, _move),
    "delete_meta": MetaChange(_incoming, _delete),
    "claim": MetaChange(_archived, _claim),
    "renew": MetaChange(_claimed, _renew),
    "apply": MetaChange(_several, _apply),
}
"""Every method that changes records."""


def _count(meta: MetaBackend) -> object:
    return meta.get_state_count(State.HOLD) if isinstance(meta, StateCounter) else None


def _oldest(meta: MetaBackend) -> object:
    return meta.get_oldest_due(State.HOLD) if isinstance(meta, StateCounter) else None


_READS: Mapping[str, Callable[[MetaBackend], object]] = {
    "get_meta": lambda meta: meta.get_meta("there"),
    "list_messages": lambda meta: meta.list_messages(State.HOLD),
    "iter_messages": lambda meta: list(meta.iter_messages(State.HOLD)),
    "get_state_count": _count,
    "get_oldest_due": _oldest,
}
"""Every method that only reads, of a store that has `there`, and perhaps others, on hold."""


def _store_and_get(meta: MetaBackend, prefix: str) -> None:
    message_id = fresh(prefix)  # an earlier try may have stored another
    stored = meta.store_meta(message_id, MessageMetadata(message_id))
    assert stored == meta.get_meta(message_id)


def _any_call(meta: MetaBackend, caller: int, number: int) -> object:
    match (caller + number) % 5:
        case 0:
            message_id = fresh("load")
            return meta.store_meta(message_id, MessageMetadata(message_id))
        case 1:
            return meta.update_meta("there", MessageMetadata("there", state=State.HOLD))
        case 2:
            return list(meta.iter_messages(State.HOLD))
        case 3:
            return meta.list_messages(State.INCOMING)
        case _:
            return meta.get_meta("there")


def _begin(meta: MetaBackend, sound: MetaBackend) -> Mapping[str, Callable[[], object]]:
    for number in range(6):
        if look(sound, f"waiting{number}") is None:
            sound.store_meta(f"waiting{number}", MessageMetadata(f"waiting{number}", state=State.HOLD))
    iteration = meta.iter_messages(State.HOLD, 2)
    soon(lambda: next(iteration))
    return {
        "an iteration that has begun": lambda: list(iteration),
        "wait_for_change": lambda: meta.wait_for_change(60),
    }


TRAFFIC = Traffic(
    probe=lambda meta: meta.get_meta("there"),
    store=lambda meta, message_id: meta.store_meta(message_id, MessageMetadata(message_id)),
    store_and_read=_store_and_get,
    any_call=_any_call,
    begin=_begin,
    writes=_WRITES,
    reads=_READS,
)
