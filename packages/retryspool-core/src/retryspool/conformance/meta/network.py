"""Networks that fail: given up in time, told as it is, and over when they're sound again."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import cast

import pytest

from retryspool.conformance.faults import (
    ALL_CUTS,
    BLACK_HOLE,
    CUTS,
    DRIP,
    FAULTS,
    HALF_OPEN,
    LOST_REPLY,
    REFUSED,
    RESET_REPLY,
    Fault,
)
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.network_calls import READS, WRITES, Records, judge_write, look
from retryspool.conformance.meta_suite import MetaSuite, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.conformance.severing import (
    Link,
    Sever,
    Severing,
    attempt_all,
    is_given_up,
    is_without_effect,
    most_at_once,
    plans,
    result_of,
    soon,
    under_load,
)
from retryspool.errors import StorageError
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.model import MessageMetadata, State

__all__ = ["NetworkTests"]

MetaLink = Link[MetaFactory, MetaBackend]
MetaSever = Sever[MetaFactory, MetaBackend]

_LANES = 4
_FAULTY_CALLS = 100


class NetworkTests(MetaSuite, Severing[MetaFactory, MetaBackend]):
    @pytest.fixture
    def link(self, sever: MetaSever, meta_factory: MetaFactory, meta: MetaBackend) -> MetaLink:
        """Open the test's store, reached through a network; it has a message on hold, `there`."""
        meta.store_meta("there", MessageMetadata("there", state=State.HOLD, headers={"k": "v"}))
        return sever(meta_factory)

    # -- META-53 -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", [BLACK_HOLE, LOST_REPLY, HALF_OPEN, DRIP], ids=str)
    @clause("META-53", level=Level.NETWORK)
    def test_a_store_that_hangs_is_given_up_in_time(
        self, link: MetaLink, meta: MetaBackend, profile: Profile, fault: Fault
    ) -> None:
        for _ in range(profile.faults):
            soon(lambda: race(len(WRITES) + len(READS), lambda _: link.backend.get_meta("there")))
            iteration = _begun_iteration(link.backend, meta)
            with link.network.failing(fault):
                for connections in ("old", "new"):  # those from before are lost to the first round
                    _give_up(link, meta, connections, iteration)

    @clause("META-53", level=Level.NETWORK)
    def test_closing_does_not_wait_for_a_store_that_hangs(self, link: MetaLink) -> None:
        soon(lambda: race(_LANES, lambda _: link.backend.get_meta("there")))
        with link.network.failing(HALF_OPEN):
            attempt_all({"close": link.backend.close}, link.network.heal)

    # -- META-54 -------------------------------------------------------------------------------------------------------

    @clause("META-54", level=Level.NETWORK)
    def test_what_may_have_become_of_a_write_is_told(
        self, sever: MetaSever, meta_factory: MetaFactory, meta: MetaBackend, profile: Profile
    ) -> None:
        meta.store_meta("there", MessageMetadata("there", state=State.HOLD))
        lanes = [(sever(meta_factory), list(WRITES)[lane::_LANES]) for lane in range(_LANES)]

        def run(lane: tuple[MetaLink, list[str]]) -> list[str]:
            link, names = lane
            return [each for name in names for each in _strike(link, meta, name, plans(CUTS, profile.faults))]

        with ThreadPoolExecutor(_LANES) as pool:
            wrong = [each for found in pool.map(run, lanes) for each in found]

        assert [] == wrong

    @clause("META-54", level=Level.NETWORK)
    def test_a_read_is_right_or_has_done_nothing(self, link: MetaLink, profile: Profile) -> None:
        wrong: list[str] = []
        for name, read in READS.items():
            expected = soon(partial(read, link.backend))
            for plan, limit_s in plans(ALL_CUTS, profile.faults):
                with link.network.failing(plan):
                    result = result_of(partial(read, link.backend), limit_s=limit_s)
                if result != expected and not is_without_effect(result):
                    wrong.append(f"{name}, {plan.summary}: {result!r}, expected {expected!r}")
                soon(lambda: link.backend.get_meta("there"))

        assert [] == wrong

    @clause("META-54", level=Level.NETWORK)
    def test_what_could_not_be_sent_was_not_done(self, link: MetaLink, meta: MetaBackend) -> None:
        soon(lambda: link.backend.get_meta("there"))
        results: list[object] = []
        with link.network.failing(REFUSED):
            for number in range(20):  # it may find out of each connection from before that it is dead
                new = MessageMetadata(f"new{number}")
                results.append(result_of(partial(link.backend.store_meta, new.id, new), limit_s=1.0))
                if is_without_effect(results[-1]):
                    break

        assert is_without_effect(results[-1]), f"with nobody listening, the outcome can't be unknown: {results[-1]!r}"
        assert {"there"} == set(everything(meta))

    # -- META-55 -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    @clause("META-55", level=Level.NETWORK)
    def test_it_works_again_with_as_many_connections(self, link: MetaLink, profile: Profile, fault: Fault) -> None:
        before = soon(lambda: _most_at_once(link, profile.racers))

        for _ in range(profile.faults):
            with link.network.failing(fault):
                results = under_load(
                    profile.racers, partial(_some_call, link.backend), calls=_FAULTY_CALLS, seconds=0.3
                )
            assert [] == [each for each in results if isinstance(each, StorageError) and not is_given_up(each)]
            race(profile.racers, lambda caller: soon(lambda: _store_and_get(link.backend, f"healed{caller}")))

        def as_many() -> None:
            after = _most_at_once(link, profile.racers)
            assert before <= after, f"{before} calls were served at once before the faults, {after} after them"

        soon(as_many)

    @clause("META-55", level=Level.NETWORK)
    def test_it_works_again_when_all_connections_were_cut(self, link: MetaLink, profile: Profile) -> None:
        soon(lambda: _most_at_once(link, profile.racers))
        link.network.cut()

        results = race(profile.racers, lambda caller: soon(lambda: _store_and_get(link.backend, f"healed{caller}")))

        assert [] == [result for result in results if isinstance(result, StorageError)]

    @clause("META-36", "META-55", level=Level.NETWORK)
    def test_an_iteration_that_is_cut_never_ends_as_if_it_were_complete(
        self, link: MetaLink, meta: MetaBackend, profile: Profile
    ) -> None:
        ids = {f"m{number}" for number in range(12)}
        for message_id in ids:
            meta.store_meta(message_id, MessageMetadata(message_id))

        for plan, limit_s in plans(ALL_CUTS, profile.faults, points=4):
            with link.network.failing(plan):
                found = result_of(lambda: _incoming(link.backend), limit_s=limit_s)
            assert is_given_up(found) or (isinstance(found, list) and sorted(ids) == sorted(found)), (
                f"{plan.summary}: {found!r}"
            )
            assert ids == set(soon(lambda: _incoming(link.backend)))

    @pytest.mark.parametrize("fault", [RESET_REPLY, BLACK_HOLE, HALF_OPEN, REFUSED], ids=str)
    @clause("META-41", "META-55", level=Level.NETWORK)
    def test_a_wait_that_is_hit_ends_and_later_ones_are_woken(
        self, link: MetaLink, meta: MetaBackend, fault: Fault
    ) -> None:
        soon(lambda: link.backend.wait_for_change(0.01))
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(result_of, lambda: link.backend.wait_for_change(0.3), limit_s=0.6)
            with link.network.failing(fault):
                link.network.cut()
                hit = waiting.result(0.6 + 5)
        assert isinstance(hit, bool) or is_given_up(hit), repr(hit)

        assert soon(lambda: _is_woken(link.backend, meta))


def _incoming(meta: MetaBackend) -> list[str]:
    return [record.id for record in meta.iter_messages(State.INCOMING, 3)]


def _begun_iteration(meta: MetaBackend, sound: MetaBackend) -> Iterator[MessageMetadata]:
    for number in range(6):
        if look(sound, f"waiting{number}") is None:
            sound.store_meta(f"waiting{number}", MessageMetadata(f"waiting{number}", state=State.HOLD))
    iteration = meta.iter_messages(State.HOLD, 2)
    soon(lambda: next(iteration))
    return iteration


def _give_up(link: MetaLink, sound: MetaBackend, connections: str, iteration: Iterator[MessageMetadata]) -> None:
    befores = {name: write.prepare(sound, _fresh(connections)) for name, write in WRITES.items()}
    calls: dict[str, Callable[[], object]] = {
        name: partial(WRITES[name].run, link.backend, befores[name]) for name in WRITES
    }
    calls |= {name: partial(read, link.backend) for name, read in READS.items()}
    calls["wait_for_change"] = lambda: link.backend.wait_for_change(60)
    calls["check"] = lambda: list(link.backend.check())
    calls["create"] = lambda: link.factory.create().close()
    calls["an iteration that has begun"] = lambda: list(iteration)

    attempts = attempt_all(calls, link.network.heal)

    wrong = [
        f"{name}: {attempt.result!r}"
        for name, attempt in attempts.items()
        if isinstance(attempt.result, Exception) and not is_given_up(attempt.result)
    ]
    for name, before in befores.items():
        wrong += _judge(name, sound, before, attempts[name].result)
    assert [] == wrong, f"over {connections} connections"


def _strike(link: MetaLink, sound: MetaBackend, name: str, faults: Iterable[tuple[Fault, float]]) -> list[str]:
    """Let a fault strike each request or reply of a write in turn; return what was wrong."""
    write = WRITES[name]
    wrong: list[str] = []
    hits = 0
    for plan, limit_s in faults:
        before = write.prepare(sound, _fresh("w"))
        soon(lambda: link.backend.get_meta("there"))
        with link.network.failing(plan):
            result = result_of(partial(write.run, link.backend, before), limit_s=limit_s)
            hits += link.network.hits
        wrong += _judge(f"{name}, {plan.summary}", sound, before, result)
        for message_id in before:
            if look(sound, message_id) is not None:
                sound.delete_meta(message_id)  # or a later claim would find it
    if not hits:
        wrong.append(f"{name}: nothing of it went through the proxy")
    return wrong


def _judge(name: str, sound: MetaBackend, before: Records, result: object) -> list[str]:
    answers: Mapping[str, object] = (
        cast("Mapping[str, object]", result) if isinstance(result, Mapping) else dict.fromkeys(before, result)
    )
    after = {message_id: look(sound, message_id) for message_id in before}
    return [f"{name}: {each}" for each in judge_write(before, after, answers)]


def _fresh(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def _some_call(meta: MetaBackend, caller: int, number: int) -> object:
    match (caller + number) % 5:
        case 0:
            fresh = _fresh("load")
            return meta.store_meta(fresh, MessageMetadata(fresh))
        case 1:
            return meta.update_meta("there", MessageMetadata("there", state=State.HOLD))
        case 2:
            return list(meta.iter_messages(State.HOLD))
        case 3:
            return meta.list_messages(State.INCOMING)
        case _:
            return meta.get_meta("there")


def _most_at_once(link: MetaLink, callers: int) -> int:
    return most_at_once(link.network, callers, lambda _: link.backend.get_meta("there"))


def _store_and_get(meta: MetaBackend, message_id: str) -> None:
    message_id = f"{message_id}-{_fresh('x')}"  # an earlier try may have stored it
    stored = meta.store_meta(message_id, MessageMetadata(message_id))
    assert stored == meta.get_meta(message_id)


def _is_woken(meta: MetaBackend, sound: MetaBackend) -> bool:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(result_of, lambda: meta.wait_for_change(0.5), limit_s=1.0)
        threading.Event().wait(0.05)  # it may wait by then; woken it must be either way
        fresh = _fresh("change")
        sound.store_meta(fresh, MessageMetadata(fresh))
        woken = waiting.result()
    assert woken is True, f"a change has woken nobody: {woken!r}"
    return woken
