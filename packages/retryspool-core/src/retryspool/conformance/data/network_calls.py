"""What the tests of networks do with payloads: each call on messages of its own, and how its answer is judged."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from retryspool.conformance.attempts import is_given_up
from retryspool.conformance.data_suite import read
from retryspool.conformance.network import Change, Traffic, fresh
from retryspool.data import DataBackend
from retryspool.errors import BackendUnavailableError, DataNotFoundError, StorageError

__all__ = ["OLD", "THERE", "TRAFFIC", "DataChange", "Payloads", "judge_write", "look", "new"]

Payloads = Mapping[str, bytes | None]
"""Payloads by id; None where there's none."""

THERE = b"there " * 200
OLD = b"old " * 300


@dataclass(frozen=True, slots=True)
class DataChange(Change[DataBackend, Payloads]):
    """One way to change payloads."""

    present: tuple[bool, ...]
    """Whether there's a payload before, for each message that it changes."""
    call: Callable[[DataBackend, list[str]], Mapping[str, object]]
    """Change them; return the answer for each id, that may be an error."""
    deletes: bool = False

    def prepare(self, backend: DataBackend, prefix: str) -> Payloads:
        before = {f"{prefix}-{number}": OLD if there else None for number, there in enumerate(self.present)}
        for message_id, content in before.items():
            if content is not None:
                backend.store_data(message_id, content)
        return before

    def run(self, backend: DataBackend, before: Payloads) -> Mapping[str, object]:
        return self.call(backend, list(before))

    def judge(self, sound: DataBackend, before: Payloads, answers: Mapping[str, object]) -> list[str]:
        judged = {
            each: judge_write(old, None if self.deletes else new(each), look(sound, each), answers[each])
            for each, old in before.items()
        }
        return [f"{each}: {fault}" for each, fault in judged.items() if fault]


def new(message_id: str, size: int = 2000) -> bytes:
    """Return the payload that a message is to have, like no other's."""
    return (message_id.encode() * (size // len(message_id) + 1))[:size]


def look(data: DataBackend, message_id: str) -> bytes | None:
    """Return a payload, or None without one."""
    try:
        return read(data, message_id)
    except DataNotFoundError:
        return None


def judge_write(old: bytes | None, wanted: bytes | None, found: bytes | None, answer: object) -> str:
    """Return what is wrong with an answer, given what was there, what was wanted, and what is there now; or nothing."""
    if found not in {old, wanted}:
        return f"neither what was there nor what was wanted: {_short(found)}"
    match answer:
        case BackendUnavailableError(outcome="none"):
            return "it was changed, and the caller doesn't know" if found != old else ""
        case StorageError():
            return "" if is_given_up(answer) else f"nobody else has done anything; it must not fail with {answer!r}"
        case _ if found != wanted:
            return f"it wasn't changed, and the caller believes it was: {answer!r}"
        case _:
            expected = None if wanted is None else len(wanted)
            return "" if answer == expected else f"the answer is {answer!r}, expected {expected!r}"


def _short(content: bytes | None) -> str:
    return "nothing" if content is None else f"{len(content)} bytes, {content[:20]!r} …"


def _store(data: DataBackend, ids: list[str]) -> Mapping[str, object]:
    return {each: data.store_data(each, new(each)) for each in ids}


def _store_if_absent(data: DataBackend, ids: list[str]) -> Mapping[str, object]:
    return {each: data.store_data(each, new(each), if_absent=True) for each in ids}


def _write(data: DataBackend, ids: list[str]) -> Mapping[str, object]:
    answers: dict[str, object] = {}
    for each in ids:
        content = new(each)
        with data.get_data_writer(each) as writer:
            writer.write(content[:700])
            writer.write(content[700:])
        answers[each] = writer.size
    return answers


def _store_many(data: DataBackend, ids: list[str]) -> Mapping[str, object]:
    return dict(zip(ids, data.store_many([(each, new(each)) for each in ids]), strict=True))


def _delete(data: DataBackend, ids: list[str]) -> Mapping[str, object]:
    for each in ids:
        data.delete_data(each)
    return dict.fromkeys(ids)


def _delete_many(data: DataBackend, ids: list[str]) -> Mapping[str, object]:
    return dict(zip(ids, data.delete_many(ids), strict=True))


_WRITES: Mapping[str, DataChange] = {
    "store_data": DataChange((False,), _store),
    "store_data that replaces": DataChange((True,), _store),
    "store_data if absent": DataChange((False,), _store_if_absent),
    "get_data_writer": DataChange((False,), _write),
    "get_data_writer that replaces": DataChange((True,), _write),
    "store_many": DataChange((False, True, False), _store_many),
    "delete_data": DataChange((True,), _delete, deletes=True),
    "delete_many": DataChange((True, False, True), _delete_many, deletes=True),
}
"""Every method that changes payloads."""

_READS: Mapping[str, Callable[[DataBackend], object]] = {
    "get_data_reader": lambda data: read(data, "there"),
    "fetch_many": lambda data: data.fetch_many(["there", "nowhere"], max_bytes=10_000),
    "iter_data": lambda data: sorted((info.message_id, info.size) for info in data.iter_data()),
    "sweep": lambda data: list(data.sweep(datetime(2000, 1, 1, tzinfo=UTC), dry_run=True)),
}
"""Every method that only reads, of a store that has `there`, with `THERE`, and perhaps others."""


def _store_and_read(data: DataBackend, message_id: str) -> None:
    content = secrets.token_bytes(100)
    data.store_data(message_id, content)
    assert content == read(data, message_id)


def _any_call(data: DataBackend, caller: int, number: int) -> object:
    match (caller + number) % 5:
        case 0:
            return data.store_data(fresh("load"), b"load")
        case 1:
            return data.store_data(f"load{caller}", b"load")
        case 2:
            return list(data.iter_data())
        case 3:
            return data.delete_data(f"load{caller}")
        case _:
            return read(data, "there")


def _begin(data: DataBackend, sound: DataBackend) -> Mapping[str, Callable[[], object]]:
    sound.store_many([(f"waiting{number}", b"x") for number in range(20)])
    iteration = data.iter_data()
    next(iteration)
    writer = data.get_data_writer(fresh("begun"))
    writer.write(new("begun"))
    return {
        "an iteration that has begun": lambda: list(iteration),
        "a reader that is open": data.get_data_reader("there").read,
        "a writer that is open": writer.close,
    }


TRAFFIC = Traffic(
    probe=lambda data: read(data, "there"),
    store=lambda data, message_id: data.store_data(message_id, b"new"),
    store_and_read=_store_and_read,
    any_call=_any_call,
    begin=_begin,
    writes=_WRITES,
    reads=_READS,
)
