"""What the tests of networks have in common: each is one for both kinds of backend, which differ in their traffic."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, cast

from retryspool.conformance.attempts import (
    attempt_all,
    is_given_up,
    is_without_effect,
    result_of,
    soon,
    under_load,
)
from retryspool.conformance.faults import ALL_CUTS, CUTS, HALF_OPEN, REFUSED, Fault
from retryspool.conformance.racing import race
from retryspool.conformance.severing import Link, most_at_once, plans
from retryspool.conformance.stores import Backend, Factory
from retryspool.errors import StorageError

__all__ = [
    "LANES",
    "Change",
    "Traffic",
    "check_close",
    "check_cut",
    "check_hang",
    "check_healed",
    "check_iteration",
    "check_nobody",
    "check_reads",
    "check_writes",
    "fresh",
]

LANES = 4
"""How many networks fail at once, each with writes of its own."""
_FAULTY_CALLS = 100

Held = TypeVar("Held", bound=Mapping[str, object])
"""What is stored for some messages, by id; None for one that isn't there."""


class Change(ABC, Generic[Backend, Held]):
    """One way to change messages."""

    @abstractmethod
    def prepare(self, backend: Backend, prefix: str) -> Held:
        """Store what it is to change, under ids that begin with this; return that, and the ids that aren't there."""

    @abstractmethod
    def run(self, backend: Backend, before: Held) -> Mapping[str, object]:
        """Change it; return the answer for each id, that may be an error."""

    @abstractmethod
    def judge(self, sound: Backend, before: Held, answers: Mapping[str, object]) -> list[str]:
        """Return what is wrong with the answers, given what was there before and what is there now."""


@dataclass(frozen=True, slots=True)
class Traffic(Generic[Backend, Held]):
    """What a kind of backend is asked over a network, by a store that has a message `there`."""

    probe: Callable[[Backend], object]
    """Read `there`."""
    store: Callable[[Backend, str], object]
    """Store a message that is new."""
    store_and_read: Callable[[Backend, str], object]
    """Store a message, that an earlier try may have stored, and find it as it was stored."""
    any_call: Callable[[Backend, int, int], object]
    """Make one of many calls, by the caller's number and the call's."""
    begin: Callable[[Backend, Backend], Mapping[str, Callable[[], object]]]
    """Open what may be open when the network fails, given a sound backend too; return calls that go on with it."""
    writes: Mapping[str, Change[Backend, Held]]
    """Every method that changes messages."""
    reads: Mapping[str, Callable[[Backend], object]]
    """Every method that only reads."""


def fresh(prefix: str) -> str:
    """Return an id that nobody has."""
    return f"{prefix}-{secrets.token_hex(4)}"


def check_hang(traffic: Traffic[Backend, Held], link: Link[Factory, Backend], sound: Backend, fault: Fault) -> None:
    """All calls are given up in time, over connections from before the fault and over new ones; and tell what is so."""
    soon(lambda: race(len(traffic.writes) + len(traffic.reads), lambda _: traffic.probe(link.backend)))
    begun = traffic.begin(link.backend, sound)
    with link.network.failing(fault):
        for connections in ("old", "new"):  # those from before are lost to the first round
            assert [] == _give_up(traffic, link, sound, connections, begun), f"over {connections} connections"


def _give_up(
    traffic: Traffic[Backend, Held],
    link: Link[Factory, Backend],
    sound: Backend,
    prefix: str,
    begun: Mapping[str, Callable[[], object]],
) -> list[str]:
    befores = {name: write.prepare(sound, fresh(prefix)) for name, write in traffic.writes.items()}
    calls: dict[str, Callable[[], object]] = {
        name: partial(write.run, link.backend, befores[name]) for name, write in traffic.writes.items()
    }
    calls |= {name: partial(read, link.backend) for name, read in traffic.reads.items()}
    calls["check"] = lambda: list(link.backend.check())
    calls["create"] = lambda: link.factory.create().close()

    attempts = attempt_all({**calls, **begun}, link.network.heal)

    wrong = [
        f"{name}: {attempt.result!r}"
        for name, attempt in attempts.items()
        if isinstance(attempt.result, Exception) and not is_given_up(attempt.result)
    ]
    for name, write in traffic.writes.items():
        wrong += _judge(name, write, sound, befores[name], attempts[name].result)
    return wrong


def check_close(traffic: Traffic[Backend, Held], link: Link[Factory, Backend]) -> None:
    """Closing is over in time, though nobody answers."""
    soon(lambda: race(LANES, lambda _: traffic.probe(link.backend)))
    with link.network.failing(HALF_OPEN):
        attempt_all({"close": link.backend.close}, link.network.heal)


def check_writes(
    traffic: Traffic[Backend, Held], links: Sequence[Link[Factory, Backend]], sound: Backend, rounds: int
) -> None:
    """Whichever request or reply of a write is struck, its answer is right; the links share the work."""
    names = list(traffic.writes)

    def run(lane: int) -> list[str]:
        mine = names[lane :: len(links)]
        return [each for name in mine for each in _strike(traffic, links[lane], sound, name, plans(CUTS, rounds))]

    with ThreadPoolExecutor(len(links)) as pool:
        wrong = [each for found in pool.map(run, range(len(links))) for each in found]

    assert [] == wrong


def _strike(
    traffic: Traffic[Backend, Held],
    link: Link[Factory, Backend],
    sound: Backend,
    name: str,
    faults: Iterable[tuple[Fault, float]],
) -> list[str]:
    """Let a fault strike each request or reply of a write in turn; return what was wrong."""
    write = traffic.writes[name]
    wrong: list[str] = []
    hits = 0
    for plan, limit_s in faults:
        before = write.prepare(sound, fresh("w"))
        soon(lambda: traffic.probe(link.backend))
        with link.network.failing(plan):
            result = result_of(partial(write.run, link.backend, before), limit_s=limit_s)
            hits += link.network.hits
        wrong += _judge(f"{name}, {plan.summary}", write, sound, before, result)
    if not hits:
        wrong.append(f"{name}: nothing of it went through the proxy")
    return wrong


def _judge(name: str, write: Change[Backend, Held], sound: Backend, before: Held, result: object) -> list[str]:
    answers: Mapping[str, object] = (
        cast("Mapping[str, object]", result) if isinstance(result, Mapping) else dict.fromkeys(before, result)
    )
    return [f"{name}: {each}" for each in write.judge(sound, before, answers)]


def check_reads(traffic: Traffic[Backend, Held], link: Link[Factory, Backend], rounds: int) -> None:
    """Whatever is struck of a read, it returns what it returns else, or says that nothing was done."""
    wrong: list[str] = []
    for name, read in traffic.reads.items():
        expected = soon(partial(read, link.backend))
        for plan, limit_s in plans(ALL_CUTS, rounds):
            with link.network.failing(plan):
                result = result_of(partial(read, link.backend), limit_s=limit_s)
            if result != expected and not is_without_effect(result):
                wrong.append(f"{name}, {plan.summary}: {result!r:.500}, expected {expected!r:.500}")
            soon(lambda: traffic.probe(link.backend))

    assert [] == wrong


def check_nobody(traffic: Traffic[Backend, Held], link: Link[Factory, Backend]) -> None:
    """With nobody listening, a write is known to be without effect."""
    soon(lambda: traffic.probe(link.backend))
    results: list[object] = []
    with link.network.failing(REFUSED):
        for number in range(20):  # it may find out of each connection from before that it is dead
            results.append(result_of(partial(traffic.store, link.backend, f"new{number}"), limit_s=1.0))
            if is_without_effect(results[-1]):
                break

    assert is_without_effect(results[-1]), f"with nobody listening, the outcome can't be unknown: {results[-1]!r}"


def check_healed(
    traffic: Traffic[Backend, Held], link: Link[Factory, Backend], callers: int, fault: Fault, rounds: int
) -> None:
    """After a fault under load all callers work again, and as many are served at once as before."""
    before = soon(lambda: _most_at_once(traffic, link, callers))

    for _ in range(rounds):
        with link.network.failing(fault):
            results = under_load(callers, partial(traffic.any_call, link.backend), calls=_FAULTY_CALLS, seconds=0.3)
        assert [] == [each for each in results if isinstance(each, StorageError) and not is_given_up(each)]
        _store_and_read(traffic, link, callers)

    def as_many() -> None:
        after = _most_at_once(traffic, link, callers)
        assert before <= after, f"{before} calls were served at once before the faults, {after} after them"

    soon(as_many)


def check_cut(traffic: Traffic[Backend, Held], link: Link[Factory, Backend], callers: int) -> None:
    """After all connections were cut at once all callers work again."""
    soon(lambda: _most_at_once(traffic, link, callers))
    link.network.cut()

    _store_and_read(traffic, link, callers)


def _most_at_once(traffic: Traffic[Backend, Held], link: Link[Factory, Backend], callers: int) -> int:
    return most_at_once(link.network, callers, lambda _: traffic.probe(link.backend))


def _store_and_read(traffic: Traffic[Backend, Held], link: Link[Factory, Backend], callers: int) -> None:
    results = race(callers, lambda caller: soon(lambda: traffic.store_and_read(link.backend, f"healed{caller}")))
    assert [] == [result for result in results if isinstance(result, StorageError)]


def check_iteration(
    iterate: Callable[[Backend], object], link: Link[Factory, Backend], expected: object, rounds: int
) -> None:
    """Whatever is struck of an iteration, it yields all, or raises."""
    for plan, limit_s in plans(ALL_CUTS, rounds, points=4):
        with link.network.failing(plan):
            found = result_of(partial(iterate, link.backend), limit_s=limit_s)
        assert found == expected or is_given_up(found), f"{plan.summary}: {found!r}"
        assert expected == soon(partial(iterate, link.backend))
