"""Processes that are killed while they store: what was acknowledged must be there, and nothing torn."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import pytest

from retryspool.conformance.children import children, say
from retryspool.conformance.data.contents import content, name_of
from retryspool.conformance.data_suite import DataSuite, OpenData, assert_stored, read, sizes
from retryspool.conformance.finishing import eventually
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs_capability
from retryspool.data import DataBackend, DataFactory
from retryspool.errors import DataNotFoundError

__all__ = ["KillTests"]

IDS = tuple(f"m{number}" for number in range(8))
_LEAST, _MOST = 6, 80
"""So many things are heard of a process before it's killed, at some moment after."""
_SIZES = (100, 5_000, 300_000)
_HALF_BYTES = 1_500_000


@dataclass(frozen=True, slots=True)
class _Intends:
    """What is about to be stored, or deleted where it's None: if nothing more is heard, any of it may have been."""

    payloads: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class _Did:
    """It was acknowledged."""


@dataclass(frozen=True, slots=True)
class _Halfway:
    """Half of a payload is written; the rest never will be."""

    message_id: str


class KillTests(DataSuite):
    @clause("DATA-29", "DATA-20", level=Level.DURABLE)
    def test_what_was_acknowledged_to_a_process_that_is_killed_is_there_whole(
        self, data: DataBackend, data_factory: DataFactory, open_data: OpenData, profile: Profile, seed: int
    ) -> None:
        needs_capability(data.capabilities, "processes")
        chance = random.Random(seed)
        expected: dict[str, str] = {}
        late: dict[str, str | None] = {}
        for round_ in range(profile.kills):
            earlier = dict(expected)
            with children(1) as (child,):
                child.begin(_toil, data_factory, f"{seed}-{round_}")
                said = [child.line() for _ in range(chance.randint(_LEAST, _MOST))]
                underway = _heard([*said, *child.kill()], expected)
            late = {each: name for each, name in late.items() if expected.get(each) == earlier.get(each)}

            with open_data() as reopened:
                (found,) = eventually(lambda: _seen_by_both(data, reopened))
            for message_id in IDS:
                is_, before = found.get(message_id), expected.get(message_id)
                may_be = {before, underway.get(message_id, before), late.get(message_id, before)}
                assert is_ in may_be, f"{message_id!r} is {is_}, {before} was acknowledged; it may be one of {may_be}"
            expected = found
            late |= underway  # what the dead had sent, a server may come to after we have looked

    @clause("DATA-29", "DATA-20", level=Level.DURABLE)
    @pytest.mark.parametrize("by", ["source", "writer"])
    def test_a_process_that_is_killed_halfway_through_a_payload_leaves_the_one_before(
        self, data: DataBackend, data_factory: DataFactory, open_data: OpenData, by: str
    ) -> None:
        needs_capability(data.capabilities, "processes")
        before = {"small": content("before", 40), "large": content("before", 2 * _HALF_BYTES)}
        data.store_many(list(before.items()))
        for message_id in (*before, "new"):
            with children(1) as (child,):
                assert _Halfway(message_id) == child.call(_stop_halfway, data_factory, message_id, by)
                child.kill()

            for backend in (data, open_data()):
                assert_stored(before, backend)


def _seen_by_both(data: DataBackend, reopened: DataBackend) -> list[dict[str, str]]:
    """Return which contents there are, if both see the same at this moment; else nothing."""
    try:
        found = {message_id: name_of(read(reopened, message_id)) for message_id in sizes(reopened)}
        lengths = {each: len(read(data, each)) for each in found}
    except DataNotFoundError:  # deleted in between
        return []
    return [found] if lengths == sizes(data) == sizes(reopened) else []


def _heard(said: Iterable[object], expected: dict[str, str]) -> Mapping[str, str | None]:
    """Take over what was acknowledged; return what was underway at the end."""
    underway: Mapping[str, str | None] = {}
    for each in said:
        if isinstance(each, _Intends):
            underway = each.payloads
            continue
        for message_id, name in underway.items():
            expected.pop(message_id, None)
            if name is not None:
                expected[message_id] = name
        underway = {}
    return underway


def _toil(factory: DataFactory, name: str) -> None:
    """Store, replace and delete until killed."""
    data = factory.create()
    chance = random.Random(name)
    for number in itertools.count():
        message_id, size = chance.choice(IDS), chance.choice(_SIZES)
        payload = f"{name}-{number}"
        kind = chance.choice(("store", "store", "write", "delete", "many"))
        several = chance.sample(IDS, 3) if kind == "many" else [message_id]
        say(_Intends(dict.fromkeys(several, None if kind == "delete" else payload)))
        if kind == "store":
            data.store_data(message_id, content(payload, size))
        elif kind == "write":
            with data.get_data_writer(message_id) as writer:
                for at in range(0, size, 50_000):
                    writer.write(content(payload, size)[at : at + 50_000])
        elif kind == "delete":
            data.delete_data(message_id)
        else:
            results = data.store_many([(each, content(payload, size)) for each in several])
            assert [size] * 3 == cast("list[int]", results)
        say(_Did())


def _stop_halfway(factory: DataFactory, message_id: str, by: str) -> None:
    """Write half of a payload, say so, and wait to be killed."""
    data = factory.create()
    if by == "source":
        data.store_data(message_id, _half_of_one(message_id))
    else:
        with data.get_data_writer(message_id) as writer:
            writer.writelines(_half_of_one(message_id))


def _half_of_one(message_id: str) -> Iterator[bytes]:
    whole = content("after", 2 * _HALF_BYTES)
    for at in range(0, _HALF_BYTES, 50_000):
        yield whole[at : at + 50_000]
    say(_Halfway(message_id))
    threading.Event().wait()
