"""Factories of both kinds: namespaces, values, capabilities, opening at once, destroying."""

from __future__ import annotations

import dataclasses
import pickle
import re
from functools import partial

import pytest

from retryspool.conformance.children import children
from retryspool.conformance.data_suite import read
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.conformance.stores import Backend, Factory, Stores
from retryspool.conformance.suite import Suite, needs, needs_capability, needs_no_capability
from retryspool.data import DataBackend, DataCapabilities, DataFactory
from retryspool.errors import InvalidOptionError, NotSupportedError
from retryspool.meta import MetaBackend, MetaCapabilities, MetaFactory
from retryspool.model import MessageMetadata, State

__all__ = ["FactoryTests", "contents", "put", "visit"]

_AT_ONCE = 6
"""Instances that open at the same moment: each may open several connections, of which a server has only so many."""

# fmt: off
_NO_NAMESPACES = (
    *("", "_a", "A", "aB", "a-b", "a.b", "a/b", "..", "../a", "a b", " a", "a ", "a\n", "a\0", "ä", "٣", "a'b", 'a"b'),
    *("a;b", "a%b", "a{b}", "a*", "x" * 33, "x" * 10_000),
)
# fmt: on


class FactoryTests(Suite[Factory, Backend]):
    # -- namespaces ----------------------------------------------------------------------------------------------------

    @clause("FACTORY-1", "FACTORY-2")
    def test_namespaces_whose_names_begin_alike_share_nothing(self, stores: Stores[Factory, Backend]) -> None:
        name = stores.namespace_of(stores.new())
        names = [name, f"{name}_", f"{name}a", f"{name}_a", name[:-1]]
        found = {each: visit(stores.at(each), "id", each) for each in names}

        assert {each: {"id": each} for each in names} == found
        assert {each: {"id": each} for each in names} == {each: visit(stores.at(each)) for each in names}

    @clause("FACTORY-2")
    def test_the_same_name_is_the_same_store(self, stores: Stores[Factory, Backend]) -> None:
        factory = stores.new()
        again = stores.at(stores.namespace_of(factory))
        one, other = stores.open(factory), stores.open(again)

        put(one, "a", "one")
        put(other, "b", "other")

        assert {"a": "one", "b": "other"} == contents(one) == contents(other)

    @clause("FACTORY-2")
    def test_a_namespace_within_a_store_is_a_store_of_its_own(self, stores: Stores[Factory, Backend]) -> None:
        around = stores.new()
        within = {name: stores.own(_in_namespace(around, name)) for name in ("a", "ab", "a_b", "incoming")}
        put_there = {name: visit(factory, "ab-message", name) for name, factory in within.items()}

        assert {name: {"ab-message": name} for name in within} == put_there
        assert {} == visit(around)
        assert {"ab-message": "around"} == visit(around, "ab-message", "around")
        around.destroy()
        assert {name: {"ab-message": name} for name in within} == {
            name: visit(stores.own(_in_namespace(around, name))) for name in within
        }

    @clause("FACTORY-2")
    def test_what_is_no_namespace_is_refused(self, stores: Stores[Factory, Backend]) -> None:
        factory = stores.new()
        _in_namespace(factory, "valid_0")
        for wrong in _NO_NAMESPACES:
            with pytest.raises(InvalidOptionError):
                factory.in_namespace(wrong)

    # -- values --------------------------------------------------------------------------------------------------------

    @clause("FACTORY-3")
    def test_factories_of_the_same_settings_are_equal(self, stores: Stores[Factory, Backend]) -> None:
        factory = stores.new()
        again, other = stores.at(stores.namespace_of(factory)), stores.new()

        assert factory == again
        assert hash(factory) == hash(again)
        assert factory != other

    @clause("FACTORY-3")
    def test_a_factory_is_frozen(self, stores: Stores[Factory, Backend]) -> None:
        factory = stores.new()
        assert dataclasses.is_dataclass(factory)
        before = hash(factory)

        for field in dataclasses.fields(factory):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(factory, field.name, None)
        assert before == hash(factory)

    @clause("FACTORY-3")
    def test_a_pickled_factory_opens_the_same_store(self, stores: Stores[Factory, Backend]) -> None:
        factory = stores.new()
        backend = stores.open(factory)
        needs_capability(backend.capabilities, "processes")
        put(backend, "here", "parent")

        copy: Factory = pickle.loads(pickle.dumps(factory))  # noqa: S301 -- our own
        assert factory == copy
        assert {"here": "parent"} == visit(copy)
        with children(1) as (child,):
            assert {"here": "parent", "there": "child"} == child.call(visit, factory, "there", "child")
        assert {"here": "parent", "there": "child"} == contents(backend)

    @clause("FACTORY-3")
    def test_a_factory_that_is_not_for_processes_shares_nothing_with_them(
        self, stores: Stores[Factory, Backend]
    ) -> None:
        factory = stores.new()
        backend = stores.open(factory)
        needs_no_capability(backend.capabilities, "processes")
        put(backend, "here", "parent")
        try:
            pickle.dumps(factory)
        except Exception:  # noqa: BLE001 -- refused, in whatever way pickling is
            return

        with children(1) as (child,):
            assert {"there": "child"} == child.call(visit, factory, "there", "child"), "it is for processes after all"
        assert {"here": "parent"} == contents(backend)

    # -- what stands on the class --------------------------------------------------------------------------------------

    @clause("FACTORY-6")
    def test_the_name_is_a_name(self, stores: Stores[Factory, Backend]) -> None:
        kind = type(stores.new())

        assert re.fullmatch(r"[a-z][a-z0-9-]*", kind.name)
        assert [] == [scheme for scheme in kind.schemes if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme)]

    @clause("FACTORY-8")
    def test_capabilities_are_declared_on_the_class(self, stores: Stores[Factory, Backend]) -> None:
        backend = stores.open(stores.new())
        declared = type(backend).capabilities

        assert type(declared) in (MetaCapabilities, DataCapabilities)
        assert declared == backend.capabilities
        assert re.fullmatch(r"\d+\.\d+", declared.contract)
        flags = {name: value for name, value in dataclasses.asdict(declared).items() if name != "contract"}
        assert {bool} == {type(value) for value in flags.values()}

    # -- opening -------------------------------------------------------------------------------------------------------

    @clause("FACTORY-7", level=Level.CONCURRENT)
    def test_many_threads_open_a_new_store_at_once(self, stores: Stores[Factory, Backend], profile: Profile) -> None:
        racers = min(profile.racers, _AT_ONCE)
        for _ in range(3):
            factory = stores.new()

            found = race(racers, partial(_visit_as, factory))

            own = [isinstance(each, dict) and each.get(f"m{racer}") for racer, each in enumerate(found)]
            assert ["x"] * racers == own, found
            assert {f"m{number}": "x" for number in range(racers)} == visit(factory)

    @clause("FACTORY-7", level=Level.CONCURRENT)
    def test_many_processes_open_a_new_store_at_once(self, stores: Stores[Factory, Backend], profile: Profile) -> None:
        needs_capability(type(stores.open(stores.new())).capabilities, "processes")
        number = max(2, min(profile.processes, _AT_ONCE))
        with children(number) as started:
            for _ in range(3):
                factory = stores.new()
                for index, child in enumerate(started):
                    child.begin(visit, factory, f"m{index}", "x")
                for child in started:
                    child.line()

                assert {f"m{index}": "x" for index in range(number)} == visit(factory)

    @clause("FACTORY-11")
    def test_a_lent_client_is_left_open(self, stores: Stores[Factory, Backend]) -> None:
        needs(self, "lend_client")
        factory, works = self.lend_client(stores.namespace_of(stores.new()))
        stores.own(factory)
        assert works()

        assert {"a": "x"} == visit(factory, "a", "x")

        assert works(), "closing the backend closed the client that was lent"
        assert {"a": "x"} == visit(factory), "a backend can't be opened again with the client that was lent"
        assert works()

    # -- destroying ----------------------------------------------------------------------------------------------------

    @clause("FACTORY-12")
    def test_a_destroyed_store_is_gone_and_no_other(self, stores: Stores[Factory, Backend]) -> None:
        factory = stores.new()
        name = stores.namespace_of(factory)
        others = {each: stores.at(each) for each in (f"{name}_", f"{name}a", name[:-1])}
        for number in range(3):
            visit(factory, f"m{number}", "x")
        for each, other in others.items():
            visit(other, "id", each)

        factory.destroy()

        assert {each: {"id": each} for each in others} == {each: visit(other) for each, other in others.items()}
        assert {} == visit(factory)
        assert {"m1": "new"} == visit(factory, "m1", "new")

    @clause("FACTORY-12")
    def test_what_is_not_there_may_be_destroyed(self, stores: Stores[Factory, Backend]) -> None:
        never_opened, emptied = stores.new(), stores.new()
        visit(emptied, "a", "x")

        never_opened.destroy()
        emptied.destroy()
        emptied.destroy()

        assert ({}, {}) == (visit(never_opened), visit(emptied))


def put(backend: MetaBackend | DataBackend, message_id: str, mark: str) -> None:
    """Store a message that can be told from others."""
    if isinstance(backend, MetaBackend):
        backend.store_meta(message_id, MessageMetadata(message_id, last_error=mark))
    else:
        backend.store_data(message_id, mark.encode(), if_absent=True)


def contents(backend: MetaBackend | DataBackend) -> dict[str, str]:
    """Return all messages of a store with their marks."""
    if isinstance(backend, MetaBackend):
        return {record.id: record.last_error for state in State for record in backend.iter_messages(state)}
    return {info.message_id: read(backend, info.message_id).decode() for info in backend.iter_data()}


def visit(factory: MetaFactory | DataFactory, message_id: str = "", mark: str = "") -> dict[str, str]:
    """Open a store, put a message into it if one is named, and return what there is."""
    with factory.create() as backend:
        if message_id:
            put(backend, message_id, mark)
        return contents(backend)


def _in_namespace(factory: Factory, name: str) -> Factory:
    try:
        return factory.in_namespace(name)
    except NotSupportedError:
        pytest.skip("the factory knows no namespaces")


def _visit_as(factory: MetaFactory | DataFactory, racer: int) -> dict[str, str]:
    return visit(factory, f"m{racer}", "x")
