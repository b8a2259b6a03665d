"""Networks that fail: given up in time, told as it is, and over when they're sound again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast

import pytest

from retryspool.conformance.data.network_calls import (
    READS,
    THERE,
    WRITES,
    DataWrite,
    Payloads,
    judge_write,
    look,
    new,
)
from retryspool.conformance.data_suite import DataSuite, read, sizes
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
    RESET_REQUEST,
    Fault,
)
from retryspool.conformance.marks import Level, clause
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
from retryspool.data import DataBackend, DataFactory, DataInfo, DataWriter
from retryspool.errors import StorageError

__all__ = ["NetworkTests"]

DataLink = Link[DataFactory, DataBackend]
DataSever = Sever[DataFactory, DataBackend]

_LANES = 4
_FAULTY_CALLS = 100
_LARGE_BYTES = 12 * 1024 * 1024
"""Several parts, for any store that splits payloads."""
_LONG_BYTES = 3 * 1024 * 1024
"""More than the buffers between a server and its client hold."""


class NetworkTests(DataSuite, Severing[DataFactory, DataBackend]):
    @pytest.fixture
    def link(self, sever: DataSever, data_factory: DataFactory, data: DataBackend) -> DataLink:
        """Open the test's store, reached through a network; it has one payload, `there`."""
        data.store_data("there", THERE)
        return sever(data_factory)

    # -- DATA-34 -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", [BLACK_HOLE, LOST_REPLY, HALF_OPEN, DRIP], ids=str)
    @clause("DATA-34", level=Level.NETWORK)
    def test_a_store_that_hangs_is_given_up_in_time(
        self, link: DataLink, data: DataBackend, profile: Profile, fault: Fault
    ) -> None:
        for _ in range(profile.faults):
            soon(lambda: race(len(WRITES) + len(READS), lambda _: read(link.backend, "there")))
            begun = _begin(link.backend, data)
            with link.network.failing(fault):
                for connections in ("old", "new"):  # those from before are lost to the first round
                    _give_up(link, data, connections, begun)

    @clause("DATA-34", level=Level.NETWORK)
    def test_closing_does_not_wait_for_a_store_that_hangs(self, link: DataLink) -> None:
        soon(lambda: race(_LANES, lambda _: read(link.backend, "there")))
        with link.network.failing(HALF_OPEN):
            attempt_all({"close": link.backend.close}, link.network.heal)

    # -- DATA-35 -------------------------------------------------------------------------------------------------------

    @clause("DATA-35", level=Level.NETWORK)
    def test_what_may_have_become_of_a_write_is_told(
        self, sever: DataSever, data_factory: DataFactory, data: DataBackend, profile: Profile
    ) -> None:
        data.store_data("there", THERE)
        lanes = [(sever(data_factory), list(WRITES)[lane::_LANES]) for lane in range(_LANES)]

        def run(lane: tuple[DataLink, list[str]]) -> list[str]:
            link, names = lane
            return [each for name in names for each in _strike(link, data, name, plans(CUTS, profile.faults))]

        with ThreadPoolExecutor(_LANES) as pool:
            wrong = [each for found in pool.map(run, lanes) for each in found]

        assert [] == wrong

    @clause("DATA-35", level=Level.NETWORK)
    def test_what_may_have_become_of_a_large_payload_is_told(
        self, link: DataLink, data: DataBackend, profile: Profile
    ) -> None:
        wrong: list[str] = []
        for plan, limit_s in plans(CUTS, profile.faults, points=2):
            message_id = _fresh("large")
            content = new(message_id, _LARGE_BYTES)
            with link.network.failing(plan):
                answer = result_of(partial(link.backend.store_data, message_id, content), limit_s=limit_s)
            wrong.append(judge_write(None, content, look(data, message_id), answer))
            soon(lambda: read(link.backend, "there"))

        assert [] == list(filter(None, wrong))

    @clause("DATA-35", level=Level.NETWORK)
    def test_a_read_is_right_or_has_done_nothing(self, link: DataLink, profile: Profile) -> None:
        wrong: list[str] = []
        for name, run in READS.items():
            expected = soon(partial(run, link.backend))
            for plan, limit_s in plans(ALL_CUTS, profile.faults):
                with link.network.failing(plan):
                    result = result_of(partial(run, link.backend), limit_s=limit_s)
                if result != expected and not is_without_effect(result):
                    wrong.append(f"{name}, {plan.summary}: {result!r:.200}, expected {expected!r:.200}")
                soon(lambda: read(link.backend, "there"))

        assert [] == wrong

    @clause("DATA-35", level=Level.NETWORK)
    def test_what_could_not_be_sent_was_not_done(self, link: DataLink, data: DataBackend) -> None:
        soon(lambda: read(link.backend, "there"))
        results: list[object] = []
        with link.network.failing(REFUSED):
            for number in range(20):  # it may find out of each connection from before that it is dead
                results.append(result_of(partial(link.backend.store_data, f"new{number}", b"new"), limit_s=1.0))
                if is_without_effect(results[-1]):
                    break

        assert is_without_effect(results[-1]), f"with nobody listening, the outcome can't be unknown: {results[-1]!r}"
        assert {"there": len(THERE)} == sizes(data)

    # -- DATA-36 -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    @clause("DATA-36", level=Level.NETWORK)
    def test_it_works_again_with_as_many_connections(self, link: DataLink, profile: Profile, fault: Fault) -> None:
        before = soon(lambda: _most_at_once(link, profile.racers))

        for _ in range(profile.faults):
            with link.network.failing(fault):
                results = under_load(
                    profile.racers, partial(_some_call, link.backend), calls=_FAULTY_CALLS, seconds=0.3
                )
            assert [] == [each for each in results if isinstance(each, StorageError) and not is_given_up(each)]
            race(profile.racers, lambda caller: soon(lambda: _store_and_read(link.backend, f"healed{caller}")))

        def as_many() -> None:
            after = _most_at_once(link, profile.racers)
            assert before <= after, f"{before} calls were served at once before the faults, {after} after them"

        soon(as_many)

    @clause("DATA-36", level=Level.NETWORK)
    def test_it_works_again_when_all_connections_were_cut(self, link: DataLink, profile: Profile) -> None:
        soon(lambda: _most_at_once(link, profile.racers))
        link.network.cut()

        results = race(profile.racers, lambda caller: soon(lambda: _store_and_read(link.backend, f"healed{caller}")))

        assert [] == [result for result in results if isinstance(result, StorageError)]

    @clause("DATA-17", "DATA-36", level=Level.NETWORK)
    def test_an_iteration_that_is_cut_never_ends_as_if_it_were_complete(
        self, link: DataLink, data: DataBackend, profile: Profile
    ) -> None:
        data.store_many([(f"m{number}", b"x" * number) for number in range(40)])
        expected = sizes(data)

        for plan, limit_s in plans(ALL_CUTS, profile.faults, points=4):
            with link.network.failing(plan):
                found = result_of(lambda: sizes(link.backend), limit_s=limit_s)
            assert found == expected or is_given_up(found), f"{plan.summary}: {found!r}"
            assert expected == soon(lambda: sizes(link.backend))

    @clause("DATA-11", "DATA-36", level=Level.NETWORK)
    def test_a_reader_that_is_cut_never_ends_as_if_it_were_at_the_end(
        self, link: DataLink, data: DataBackend, profile: Profile
    ) -> None:
        content = new("long", _LONG_BYTES)
        data.store_data("long", content)

        for plan, limit_s in plans(CUTS, profile.faults, points=2):
            reader = soon(lambda: _open_and_read(link.backend, "long", 1000))
            with link.network.failing(plan):
                if plan.times is None:
                    link.network.cut()
                rest = result_of(partial(_rest, reader, 1000), limit_s=limit_s)
            _let_go(reader)
            assert rest == content or is_given_up(rest), f"{plan.summary}: {rest!r:.200}"
            with link.network.failing(plan):
                whole = result_of(lambda: read(link.backend, "long"), limit_s=limit_s)
            assert whole == content or is_given_up(whole), f"{plan.summary}: {whole!r:.200}"
            assert THERE == soon(lambda: read(link.backend, "there"))

    @pytest.mark.parametrize("fault", [RESET_REQUEST, RESET_REPLY, HALF_OPEN, REFUSED], ids=str)
    @clause("DATA-8", "DATA-36", level=Level.NETWORK)
    def test_a_writer_that_is_cut_makes_all_visible_or_nothing(
        self, link: DataLink, data: DataBackend, fault: Fault
    ) -> None:
        contents = {name: new(name, _LARGE_BYTES) for name in ("one", "there")}
        old = {"one": None, "there": THERE}

        for name, content in contents.items():

            def write(name: str = name, content: bytes = content) -> int:
                with link.backend.get_data_writer(name) as writer:
                    writer.write(content[: _LARGE_BYTES // 2])
                    link.network.inflict(fault)
                    link.network.cut()
                    writer.write(content[_LARGE_BYTES // 2 :])
                return writer.size

            answer = result_of(write, limit_s=0.6)
            link.network.heal()

            assert "" == judge_write(old[name], content, look(data, name), answer)
            soon(lambda: _store_and_read(link.backend, "after"))


@dataclass(frozen=True, slots=True)
class _Begun:
    """What was opened while the network was sound."""

    iteration: Iterator[DataInfo]
    reader: BinaryIO
    writer: DataWriter


def _begin(data: DataBackend, sound: DataBackend) -> _Begun:
    sound.store_many([(f"waiting{number}", b"x") for number in range(20)])
    iteration = data.iter_data()
    next(iteration)
    writer = data.get_data_writer(_fresh("begun"))
    writer.write(new("begun"))
    return _Begun(iteration, data.get_data_reader("there"), writer)


def _give_up(link: DataLink, sound: DataBackend, connections: str, begun: _Begun) -> None:
    befores = {name: write.prepare(sound, _fresh(connections)) for name, write in WRITES.items()}
    calls: dict[str, Callable[[], object]] = {
        name: partial(WRITES[name].run, link.backend, list(before)) for name, before in befores.items()
    }
    calls |= {name: partial(run, link.backend) for name, run in READS.items()}
    calls["check"] = lambda: list(link.backend.check())
    calls["create"] = lambda: link.factory.create().close()
    calls["an iteration that has begun"] = lambda: list(begun.iteration)
    calls["a reader that is open"] = begun.reader.read
    calls["a writer that is open"] = begun.writer.close

    attempts = attempt_all(calls, link.network.heal)

    wrong = [
        f"{name}: {attempt.result!r}"
        for name, attempt in attempts.items()
        if isinstance(attempt.result, Exception) and not is_given_up(attempt.result)
    ]
    for name, before in befores.items():
        wrong += _judge(name, WRITES[name], sound, before, attempts[name].result)
    assert [] == wrong, f"over {connections} connections"


def _strike(link: DataLink, sound: DataBackend, name: str, faults: Iterable[tuple[Fault, float]]) -> list[str]:
    """Let a fault strike each request or reply of a write in turn; return what was wrong."""
    write = WRITES[name]
    wrong: list[str] = []
    hits = 0
    for plan, limit_s in faults:
        before = write.prepare(sound, _fresh("w"))
        soon(lambda: read(link.backend, "there"))
        with link.network.failing(plan):
            result = result_of(partial(write.run, link.backend, list(before)), limit_s=limit_s)
            hits += link.network.hits
        wrong += _judge(f"{name}, {plan.summary}", write, sound, before, result)
    if not hits:
        wrong.append(f"{name}: nothing of it went through the proxy")
    return wrong


def _judge(name: str, write: DataWrite, sound: DataBackend, before: Payloads, result: object) -> list[str]:
    answers: Mapping[str, object] = (
        cast("Mapping[str, object]", result) if isinstance(result, Mapping) else dict.fromkeys(before, result)
    )
    judged = {
        each: judge_write(old, write.wanted(each), look(sound, each), answers[each]) for each, old in before.items()
    }
    return [f"{name}: {each}: {fault}" for each, fault in judged.items() if fault]


def _fresh(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def _some_call(data: DataBackend, caller: int, number: int) -> object:
    match (caller + number) % 5:
        case 0:
            return data.store_data(_fresh("load"), b"load")
        case 1:
            return data.store_data(f"load{caller}", b"load")
        case 2:
            return list(data.iter_data())
        case 3:
            return data.delete_data(f"load{caller}")
        case _:
            return read(data, "there")


def _most_at_once(link: DataLink, callers: int) -> int:
    return most_at_once(link.network, callers, lambda _: read(link.backend, "there"))


def _store_and_read(data: DataBackend, message_id: str) -> None:
    content = secrets.token_bytes(100)
    data.store_data(message_id, content)
    assert content == read(data, message_id)


def _open_and_read(data: DataBackend, message_id: str, size: int) -> BinaryIO:
    reader = data.get_data_reader(message_id)
    assert new(message_id, _LONG_BYTES)[:size] == reader.read(size)
    return reader


def _rest(reader: BinaryIO, offset: int) -> bytes:
    """Return the whole payload of a reader of which so much was read."""
    parts = [new("long", _LONG_BYTES)[:offset]]
    while part := reader.read(100_000):
        parts.append(part)
    return b"".join(parts)


def _let_go(reader: BinaryIO) -> None:
    result = result_of(reader.close, limit_s=1.0)
    assert result is None or is_given_up(result), repr(result)
