"""Clients of the small store over TCP, with one bug each: `test_network_mutants.py` runs the suite on them.

Each class's docstring names the clause that must fail.
"""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import pytest
from toy_backend import TIMEOUT_S, ToyClient, ToyData, ToyDataFactory, ToyMeta, ToyMetaFactory, _Parts
from toy_server import ToyServer

from retryspool.conformance.data.network import NetworkTests as DataNetworkTests
from retryspool.conformance.marks import clauses_of
from retryspool.conformance.meta.network import NetworkTests as MetaNetworkTests
from retryspool.conformance.meta.restarts import RestartTests
from retryspool.conformance.suite import Through
from retryspool.data import DataInfo, DataWriter
from retryspool.errors import BackendUnavailableError, StorageError
from retryspool.memory import _Writer
from retryspool.meta import MetaFactory
from retryspool.model import State

# -- clients -----------------------------------------------------------------------------------------------------------


class ForgetsTheDeadline(ToyClient):
    """META-53: waits for its own time-out, however little the caller has."""

    def _ask(self, request: tuple[Any, ...], until: float) -> object:  # noqa: ARG002 -- that's it
        return super()._ask(request, time.monotonic() + TIMEOUT_S)


class TimesEachByte(ToyClient):
    """META-53: each read may take as long as all of them together."""

    def _exchange(self, connection: Any, request: tuple[Any, ...], until: float) -> object:
        allowed = until - time.monotonic()

        class Patient:
            def __getattr__(self, name: str) -> Any:
                return getattr(connection, name)

            def settimeout(self, _: float) -> None:
                connection.settimeout(max(0.001, allowed))

        return super()._exchange(Patient(), request, until)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class SaysNothingHappened(ToyClient):
    """META-54: a lost reply is reported as an effect that certainly didn't happen."""

    outcome_when_sent = "none"


class TriesAgainBlindly(ToyClient):
    """META-54: sends a lost request again as a new one."""

    def _exchange(self, connection: Any, request: tuple[Any, ...], until: float) -> object:
        return super()._exchange(connection, (uuid.uuid4().hex, *request[1:]), until)


class NeverKnows(ToyClient):
    """META-54: with nobody listening, the outcome is unknown."""

    def _ask(self, request: tuple[Any, ...], until: float) -> object:
        try:
            return super()._ask(request, until)
        except BackendUnavailableError as error:
            error.outcome = "unknown"
            raise


class TakesHalfForAll(ToyClient):
    """META-55: a reply that broke off is an empty one."""

    def _exchange(self, connection: Any, request: tuple[Any, ...], until: float) -> object:
        try:
            return super()._exchange(connection, request, until)
        except EOFError:
            if request[3].startswith("page"):
                return []
            raise


class LosesRoom(ToyClient):
    """META-55: each error costs a place in the pool."""

    def call(self, part: str, method: str, *args: object, **options: object) -> Any:
        try:
            return super().call(part, method, *args, **options)
        except StorageError:
            self._room.acquire(blocking=False)
            raise


class KeepsTheDead(ToyClient):
    """META-55: a connection that was lost is used again, and again."""

    def _connection(self, until: float) -> Any:
        connection, was_idle = super()._connection(until)
        self._kept = getattr(self, "_kept", [])
        self._kept.append(connection)
        if len(self._kept) > 3:
            return self._kept[0], was_idle and len(self._idle) > 0
        return connection, was_idle


class SleepsOn(ToyMeta):
    """META-55: whoever waited when the network failed is never woken again."""

    _is_deaf = False

    def wait_for_change(self, timeout: float) -> bool:
        try:
            return super().wait_for_change(timeout) and not self._is_deaf
        except StorageError:
            self._is_deaf = True
            raise


class ForgetfulServer(ToyServer):
    """META-56: what was stored last is gone after a restart."""

    def kill(self) -> None:
        super().kill()
        for store in self.stores.values():
            records = sorted(
                (record for state in State for record in store.meta.iter_messages(state)), key=lambda r: r.updated
            )
            for record in records[-4:]:
                store.meta.delete_meta(record.id)


class ShowsHalf(ToyData):
    """DATA-36: a writer stores as it goes."""

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        put = self._client

        class Hasty(_Writer):
            def write(self, data: Any, /) -> int:
                written = super().write(data)
                put.call("", "put", message_id, self._buffer.getvalue(), if_absent=if_absent)
                return written

        return Hasty(lambda content: put.call("", "put", message_id, content, if_absent=if_absent))


class EndsEarly(ToyData):
    """DATA-36: a reader that loses its server is at its end."""

    def get_data_reader(self, message_id: str) -> BinaryIO:
        class Careless(_Parts):
            def readinto(self, buffer: Any, /) -> int:
                try:
                    return super().readinto(buffer)
                except StorageError:
                    return 0

        token = uuid.uuid4().hex
        return io.BufferedReader(
            Careless(self._client, token, self._client.call("", "open_payload", token, message_id))
        )


class ListsHalf(ToyData):
    """DATA-36: an iteration that loses its server is complete."""

    def iter_data(self) -> Iterator[DataInfo]:
        try:
            yield from super().iter_data()
        except StorageError:
            return


class HidesAnError(ToyData):
    """DATA-35: a deletion that failed is reported as done."""

    def delete_data(self, message_id: str) -> None:
        try:
            super().delete_data(message_id)
        except BackendUnavailableError:
            return


# -- the suite on each of them -----------------------------------------------------------------------------------------


class _Served:
    clause: ClassVar[str]
    make_server: ClassVar[type[ToyServer]] = ToyServer
    server: ToyServer

    @pytest.fixture(autouse=True)
    def _own_server(self) -> Iterator[None]:
        self.server = self.make_server().start()
        yield
        self.server.kill()

    def restart_server(self) -> None:
        self.server.kill()
        self.server.start()


class _Meta(_Served, MetaNetworkTests, RestartTests):
    make: ClassVar[type[ToyMetaFactory]] = ToyMetaFactory

    def factory(self, namespace: str) -> MetaFactory:
        return ToyMetaFactory(self.server.address, namespace)

    def sever_network(self, namespace: str, through: Through) -> MetaFactory:
        return self.make(through(*self.server.address), namespace)


class _Data(_Served, DataNetworkTests):
    make: ClassVar[type[ToyDataFactory]] = ToyDataFactory

    def factory(self, namespace: str) -> ToyDataFactory:
        return ToyDataFactory(self.server.address, namespace)

    def sever_network(self, namespace: str, through: Through) -> ToyDataFactory:
        return self.make(through(*self.server.address), namespace)


def _suite(mutant: type[Any]) -> type[Any]:
    clause, _, _ = (mutant.__doc__ or "").partition(":")
    base: type[Any] = _Data if clause.startswith("DATA") else _Meta
    others = [
        name
        for name in dir(base)
        if (mark := clauses_of(getattr(base, name))) and clause not in {each.id for each in mark.clauses}
    ]
    body: dict[str, Any] = {"__module__": __name__, "clause": clause, **dict.fromkeys(others)}
    if issubclass(mutant, ToyServer):
        body["make_server"] = mutant
    else:
        where = "client" if issubclass(mutant, ToyClient) else "backend"
        body["make"] = dataclass(frozen=True)(type(f"{mutant.__name__}Factory", (base.make,), {where: mutant}))
    return type(f"Test{mutant.__name__}", (base,), body)


MUTANTS: list[type[Any]] = [
    *(ForgetsTheDeadline, TimesEachByte, SaysNothingHappened, TriesAgainBlindly, NeverKnows, TakesHalfForAll),
    *(LosesRoom, KeepsTheDead, SleepsOn, ForgetfulServer, ShowsHalf, EndsEarly, ListsHalf, HidesAnError),
]
for _mutant in MUTANTS:
    globals()[f"Test{_mutant.__name__}"] = _suite(_mutant)
