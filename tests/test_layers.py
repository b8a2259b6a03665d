"""Imports go down the layer table of the architecture; its contracts are in pyproject.toml, under tool.importlinter."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
LINT = Path(sys.executable).with_name("lint-imports")
SOURCES = sorted(path.parent for path in ROOT.glob("packages/*/src/*/__init__.py"))
OWN = [source.name for source in SOURCES]


def lint(folder: Path) -> str:
    """Lint the modules that lie directly in a folder, by this workspace's contracts; return the report."""
    done = subprocess.run(
        [LINT, "--config", ROOT / "pyproject.toml", "--no-cache", "--no-logo"],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for source in SOURCES:
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_no_import_goes_against_the_layer_table(copy: Path) -> None:
    report = lint(copy)

    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", report), report


@pytest.mark.parametrize(
    ("module", "forbidden", "contract"),
    [
        ("retryspool.errors", "retryspool.meta", "Inside retryspool, imports go down"),
        ("retryspool.model", "retryspool.plugins", "Inside retryspool, imports go down"),
        ("retryspool.meta", "retryspool.files", "Inside retryspool, imports go down"),
        ("retryspool.plugins", "retryspool.spool", "Inside retryspool, imports go down"),
        ("retryspool.plugins", "retryspool.memory", "Inside retryspool, imports go down"),
        ("retryspool.memory", "retryspool.queue", "Inside retryspool, imports go down"),
        ("retryspool.spool", "retryspool.queue", "Inside retryspool, imports go down"),
        ("retryspool.newcomer", "retryspool.errors", "Inside retryspool, imports go down"),
        ("retryspool.files", "retryspool.model", "The file layer knows nothing of messages"),
        ("retryspool.queue", "retryspool.files", "Spool and queue know no backend"),
        ("retryspool.spool", "retryspool.memory", "Spool and queue know no backend"),
        ("retryspool.queue", "retryspool_fs_meta", "The core imports no sibling"),
        ("retryspool.conformance", "retryspool.memory", "The conformance suite knows interfaces, and no backend"),
        ("retryspool_redis_meta", "retryspool_s3_data", "Siblings never import each other"),
        ("retryspool_fs_meta", "retryspool_fs_data", "Siblings never import each other"),
        ("retryspool_fs_data", "retryspool_cli", "Siblings never import each other"),
        ("retryspool_cli", "retryspool_fs_meta", "Siblings never import each other"),
    ],
)
def test_an_import_against_the_table_is_caught(module: str, forbidden: str, contract: str, copy: Path) -> None:
    package = copy.joinpath(*module.split("."))
    path = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    with path.open("a") as file:
        file.write(f"\nimport {forbidden}\n")

    report = lint(copy)

    assert f"{contract} BROKEN" in report, report


@pytest.mark.parametrize("source", SOURCES, ids=OWN)
def test_a_distribution_imports_only_what_it_declares(source: Path) -> None:
    project = tomllib.loads((source.parents[1] / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    declared = [*project["dependencies"], *(line for extra in extras for line in extra)]
    allowed = {module for line in declared for module in modules_of(line)} | {source.name}
    if "retryspool_core" in allowed:
        allowed.add("retryspool")

    assert set() == imported_from_outside(source.name) - allowed


def modules_of(requirement: str) -> set[str]:
    """Name the modules that a requirement brings, with those of its extras called after it, as psycopg's pool."""
    match = re.match(r"([A-Za-z0-9-]+)(?:\[([a-z,]+)\])?", requirement)
    assert match
    wanted = {match[1], *(f"{match[1]}-{extra}" for extra in (match[2] or "").split(","))}
    brought = {
        module
        for module, distributions in packages_distributions().items()
        if wanted & {name.replace("_", "-").lower() for name in distributions}
    }
    return brought or {match[1].replace("-", "_")}


@pytest.mark.parametrize(
    ("module", "layer"), [("pluggy", "plugins"), ("pytest", "conformance"), ("hypothesis", "conformance")]
)
def test_what_the_core_imports_is_known_to_one_layer_alone(module: str, layer: str) -> None:
    graph = grimp.build_graph("retryspool", include_external_packages=True)

    importers = graph.find_modules_that_directly_import(module)

    assert {f"retryspool.{layer}"} == {".".join(importer.split(".")[:2]) for importer in importers}


def imported_from_outside(name: str) -> set[str]:
    graph = grimp.build_graph(name, include_external_packages=True, exclude_type_checking_imports=True)
    top = {module.split(".")[0] for module in graph.modules}
    return top - set(sys.stdlib_module_names)
