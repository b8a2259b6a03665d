"""The asynchronous queue is the synchronous one: method by method, parameter by parameter, type by type."""

from __future__ import annotations

import asyncio
import inspect
import io
import re
from collections.abc import Callable

import pytest

import retryspool
from retryspool import Spool, aio
from retryspool.aio.inner import Inner
from retryspool.memory import MemoryData, MemoryMeta

STAY_AS_THEY_ARE = {
    "add_bounce_handler",
    "add_handler",
    "add_observer",
    "bounce_handler",
    "handler",
    "routes",
}
"""What only touches this process's memory: no coroutines."""
ENTERED = {"begin_enqueue", "open"}
"""What returns at once, and waits where it's entered."""
PROPERTIES_HERE = {"sync", "spool", "counters", "headers"}
"""What only this has, and what is an attribute there."""
TYPES = {"BinaryIO": "AsyncPayload"}
"""What is another class here."""


def public(thing: type) -> dict[str, object]:
    return {
        name: inspect.getattr_static(thing, name)
        for name in dir(thing)
        if not name.startswith("_") and not isinstance(inspect.getattr_static(thing, name), type)
    }


def parameters(function: Callable[..., object]) -> dict[str, tuple[object, object, object]]:
    return {
        name: (parameter.kind, parameter.default, parameter.annotation)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "threads"  # the one that's only here
    }


def unwrapped(member: object) -> Callable[..., object]:
    function: object = getattr(member, "__func__", member)
    assert callable(function)
    return function


PAIRS = [
    (retryspool.Queue, aio.Queue, name)
    for name, member in public(retryspool.Queue).items()
    if not isinstance(member, property)
] + [
    (retryspool.MessageWriter, aio.MessageWriter, name)
    for name, member in public(retryspool.MessageWriter).items()
    if not isinstance(member, property)
]
METHODS = pytest.mark.parametrize(
    ("sync", "asynchronous", "name"), PAIRS, ids=lambda value: getattr(value, "__qualname__", value)
)


@pytest.mark.parametrize(
    ("sync", "asynchronous"), [(retryspool.Queue, aio.Queue), (retryspool.MessageWriter, aio.MessageWriter)]
)
def test_both_have_the_same_members(sync: type, asynchronous: type) -> None:
    assert set() == {name for name in set(public(asynchronous)) & PROPERTIES_HERE if name in public(sync)}
    assert set(public(sync)) == set(public(asynchronous)) - PROPERTIES_HERE
    for name, member in public(sync).items():
        assert isinstance(member, property) is isinstance(public(asynchronous)[name], property), name


@METHODS
def test_a_method_takes_the_same_parameters(sync: type, asynchronous: type, name: str) -> None:
    ours, theirs = (unwrapped(public(thing)[name]) for thing in (asynchronous, sync))

    assert parameters(theirs) == parameters(ours)


@METHODS
def test_a_method_returns_the_same_later(sync: type, asynchronous: type, name: str) -> None:
    ours, theirs = (unwrapped(public(thing)[name]) for thing in (asynchronous, sync))
    result: str = inspect.signature(theirs).return_annotation
    expected = TYPES.get(result, re.sub(r"^Iterator\[", "AsyncIterator[", result))

    assert expected == inspect.signature(ours).return_annotation
    is_coroutine = name not in STAY_AS_THEY_ARE | ENTERED and not expected.startswith("AsyncIterator[")
    assert is_coroutine is inspect.iscoroutinefunction(ours)


def test_the_constructors_take_the_same_and_threads() -> None:
    assert parameters(retryspool.Queue.__init__) == parameters(aio.Queue.__init__)
    for function in (aio.Queue.__init__, aio.Queue.open):
        assert "int" == inspect.signature(function).parameters["threads"].annotation


PASSED_ON = [
    name
    for sync, _, name in PAIRS
    if sync is retryspool.Queue and name not in STAY_AS_THEY_ARE | {"open", "list", "start", "run", "close"}
]


@pytest.mark.parametrize("name", PASSED_ON)
def test_a_method_passes_on_all_that_it_was_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signature = inspect.signature(unwrapped(public(retryspool.Queue)[name]))
    given = {parameter: f"<{parameter}>" for parameter in signature.parameters if parameter != "self"}
    passed: list[dict[str, object]] = []

    def called(*arguments: object, **settings: object) -> io.BytesIO:
        bound = signature.bind(*arguments, **settings)
        bound.apply_defaults()
        passed.append({each: value for each, value in bound.arguments.items() if each != "self"})
        return io.BytesIO()

    async def main() -> None:
        async with aio.Queue(Spool(MemoryMeta(), MemoryData())) as queue:
            with monkeypatch.context() as patched:
                patched.setattr(Inner, name, called)
                result = getattr(queue, name)(**given)
                if isinstance(result, aio.MessageWriter):
                    result._begin()
                elif inspect.isasyncgen(result):
                    assert [] == [each async for each in result]
                else:
                    await result

    asyncio.run(main())

    for call in passed:
        call.pop("progress", None)  # it's told by way of another
    given.pop("progress", None)
    assert [given] == passed
