"""`__all__` is the public surface: all that it names is there, and nothing else looks public."""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

SOURCES = sorted(path for path in Path(__file__).parents[1].glob("packages/*/src/*") if path.is_dir())
MODULES = sorted(
    name
    for source in SOURCES
    for name in [
        source.name,
        *(
            found.name
            for found in pkgutil.walk_packages([str(source)], f"{source.name}.")
            if "__main__" not in found.name
        ),
    ]
)


@pytest.mark.parametrize("name", MODULES)
def test_all_that_a_module_exports_is_there_once(name: str) -> None:
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", []))

    assert len(set(exported)) == len(exported)
    assert [] == [each for each in exported if not hasattr(module, each)]


@pytest.mark.parametrize("name", [source.name for source in SOURCES])
def test_a_distribution_exports_all_that_looks_public(name: str) -> None:
    module = importlib.import_module(name)
    public = {
        each
        for each, value in vars(module).items()
        if not each.startswith("_") and each != "annotations" and not isinstance(value, ModuleType)
    }

    assert set() == public - set(getattr(module, "__all__", []))
