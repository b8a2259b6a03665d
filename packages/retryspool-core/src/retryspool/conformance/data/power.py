"""Power cuts under stores on local disks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from retryspool.conformance.data_suite import DataSuite, read
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.power import cut_everywhere
from retryspool.conformance.powercut import Image, Recorded
from retryspool.conformance.stores import Stores
from retryspool.data import DataBackend, DataFactory
from retryspool.errors import DataNotFoundError

__all__ = ["PowerCutTests", "Then"]

IDS = ("a", "b", "c", "d")


@dataclass(frozen=True, slots=True)
class Then:
    """What a step made of a payload; None where it was deleted, which need not survive."""

    content: bytes | None


def _store(data: DataBackend) -> dict[str, Then]:
    data.store_data("a", b"first " * 1000, if_absent=True)
    return {"a": Then(b"first " * 1000)}


def _replace(data: DataBackend) -> dict[str, Then]:
    data.store_data("a", b"second " * 2000)
    return {"a": Then(b"second " * 2000)}


def _write(data: DataBackend) -> dict[str, Then]:
    with data.get_data_writer("b") as writer:
        for _ in range(40):
            writer.write(b"chunk of it " * 1000)
    return {"b": Then(b"chunk of it " * 40_000)}


def _store_batch(data: DataBackend) -> dict[str, Then]:
    data.store_many([("c", b"c" * 5000), ("d", b"")])
    return {"c": Then(b"c" * 5000), "d": Then(b"")}


def _abort(data: DataBackend) -> dict[str, Then]:
    writer = data.get_data_writer("c")
    writer.write(b"never")
    writer.abort()
    return {}


def _delete(data: DataBackend) -> dict[str, Then]:
    data.delete_data("a")
    return {"a": Then(None)}


def _store_again(data: DataBackend) -> dict[str, Then]:
    data.store_data("a", b"third")
    return {"a": Then(b"third")}


STEPS: tuple[Callable[[DataBackend], dict[str, Then]], ...] = (
    *(_store, _replace, _write, _store_batch, _abort, _delete, _store_again),
)


class PowerCutTests(DataSuite):
    @clause("DATA-38", level=Level.DURABLE)
    def test_what_was_acknowledged_survives_a_power_cut_at_any_moment(
        self, stores: Stores[DataFactory, DataBackend]
    ) -> None:
        cut_everywhere(self, stores, steps=STEPS, ids=IDS, troubles=_troubles)


def _troubles(data: DataBackend, message_id: str, recorded: Recorded[Then], image: Image) -> list[str]:
    """Return what is wrong with a payload after a cut: nothing, or one line."""
    may_be = recorded.may_be(message_id, image, Then(None), lambda then: then.content is not None)
    try:
        found = Then(read(data, message_id))
    except DataNotFoundError:
        found = Then(None)
    if found in may_be:
        return []
    shown = "not there" if found.content is None else f"{len(found.content)} bytes: {found.content[:20]!r}…"
    return [f"{message_id} is {shown}; cut in step {image.step}, {image.kind}"]
