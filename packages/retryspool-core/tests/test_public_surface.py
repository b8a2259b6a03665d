"""All that is public is exported, documented, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

import retryspool

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(retryspool.__path__, "retryspool.")
    if not any(part.startswith("_") for part in found.name.split("."))
)


def public_things() -> Iterator[tuple[str, object]]:
    for name in ("retryspool", *MODULES):
        module = importlib.import_module(name)
        for exported in getattr(module, "__all__", ()):
            thing = getattr(module, exported)
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield f"{name}.{exported}", thing


def members(thing: object) -> Iterator[tuple[str, bool]]:
    """Yield the public methods and properties of a class, and whether each has a docstring, be it inherited.

    A test needs none: its name is its promise.
    """
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            called = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            if not name.startswith(("_", "test_")) and (inspect.isfunction(called) or isinstance(called, property)):
                yield name, bool(inspect.getdoc(called))


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_and_what_it_exports(name: str) -> None:
    module = importlib.import_module(name)

    assert (module.__doc__ or "").strip()
    assert isinstance(module.__all__, list)
    assert [] == [each for each in module.__all__ if not hasattr(module, each)]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_exports_all_that_it_defines_for_others(name: str) -> None:
    module = importlib.import_module(name)
    defined = {
        each
        for each, thing in vars(module).items()
        if not each.startswith("_")
        and not isinstance(thing, ModuleType)
        and getattr(thing, "__module__", None) == name
        and (inspect.isclass(thing) or inspect.isfunction(thing))
    }

    assert set() == defined - set(module.__all__)


def test_all_that_is_public_has_a_docstring() -> None:
    assert [] == [path for path, thing in public_things() if not inspect.getdoc(thing)]


def test_every_public_method_has_a_docstring_there_or_on_its_interface() -> None:
    things = dict(public_things())
    documented = {name for thing in things.values() for name, has_one in members(thing) if has_one}

    missing = [
        f"{path}.{name}" for path, thing in things.items() for name, _ in members(thing) if name not in documented
    ]

    assert [] == missing


def test_what_a_user_needs_by_name_comes_from_the_package_itself() -> None:
    assert {"Queue", "Spool", "PermanentError", "RetryableError", "deadline", "State"} <= set(retryspool.__all__)


def test_who_only_enqueues_imports_no_asyncio() -> None:
    code = (
        "import sys; from retryspool import Queue, Spool; from retryspool.memory import MemoryData, MemoryMeta\n"
        "with Queue(Spool(MemoryMeta(), MemoryData())) as queue: queue.enqueue(b'')\n"
        "sys.exit(sorted({'asyncio', 'ssl'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
