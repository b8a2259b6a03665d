"""Build every distribution, then install each into an empty environment, with no more than it asks for, and use it.

What stands in the working tree hides what a wheel forgets: a module, py.typed, a dependency. A backend that is alone
there lists just its factory, has no driver but its own, and passes the conformance suite (its core, here). So does the
example of a third party's backend, whose own tests are the suite.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any

from retryspool_cli.servers import PostgresServer, RedisServer, S3Server

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "retryspool-onefile-meta"
UV = os.environ.get("UV", "uv")  # `uv run` sets it to itself
IMPORTED = """
import importlib.metadata, importlib.resources, sys
distribution, module = sys.argv[1:]
importlib.import_module(module)
assert (importlib.resources.files(module) / "py.typed").is_file(), f"{distribution} ships no py.typed"
files = importlib.metadata.files(distribution)
assert any(file.name == "LICENSE" for file in files), f"{distribution} ships no LICENSE"
for entry_point in importlib.metadata.distribution(distribution).entry_points:
    entry_point.load()
"""

ALONE = """
import sys
from retryspool.plugins import registry
kind, name, driver, others = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4].split()
found = {"meta": registry.meta_factories(), "data": registry.data_factories()}
names = {each: sorted({info.name for info in infos} - {"memory"}) for each, infos in found.items()}
assert names == {"meta": [], "data": []} | {kind: [name]}, f"it lists {names}"
assert not registry.failed, registry.failed
registry.get_meta_factory(name) if kind == "meta" else registry.get_data_factory(name)
for other in others:
    try:
        __import__(other)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{other} is there, which is no driver of {name}'s")
"""
SERVERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "pg": PostgresServer,
    "redis": RedisServer,
    "s3": S3Server,
}
PLAIN = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".")
MIDDLEWARE = {"retryspool-compression": "zstd", "retryspool-encryption": "aes-256-gcm:?key-file=key"}
DRIVERS = {"fs": "", "pg": "psycopg", "redis": "redis", "s3": "boto3"}


def run(*command: str | Path, cwd: Path) -> None:
    """Run a command; show what it printed only if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def project(name: str) -> dict[str, Any]:
    """Read the `[project]` table of a package."""
    return tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())["project"]


def siblings(name: str, names: list[str]) -> set[str]:
    """Name the packages of this workspace that a package brings with it, its extras included, itself too."""
    asked = [*project(name)["dependencies"], *chain(*project(name).get("optional-dependencies", {}).values())]
    direct = {other for other in names if other != name and any(line.startswith(f"{other}~=") for line in asked)}
    return {name}.union(*(siblings(other, names) for other in direct))


def environment(scratch: Path, name: str, *requirements: str) -> Path:
    """Make an empty environment with these in it; return its Python."""
    python = scratch / name / "bin" / "python"
    run(UV, "venv", "--python", sys.executable, scratch / name, cwd=scratch)
    run(UV, "pip", "install", "--python", python, *requirements, cwd=scratch)
    run(UV, "pip", "check", "--python", python, cwd=scratch)
    return python


def prove(python: Path, name: str, scratch: Path) -> None:
    """Show that a backend is alone in its environment, and run the core of the suite on it."""
    _, backend, kind = name.split("-")
    others = " ".join(driver for driver in DRIVERS.values() if driver not in {"", DRIVERS[backend]})
    run(python, "-c", ALONE, kind, backend, DRIVERS[backend], others, cwd=scratch)
    if backend == "fs":
        suite(python, kind, f"fs:{scratch}/spool", scratch)
    else:
        with SERVERS[backend]() as server:
            suite(python, kind, server.url, scratch)


def suite(python: Path, kind: str, url: str, scratch: Path) -> None:
    """Run the core of the conformance suite from where it's installed."""
    options = (*PLAIN, "--retryspool-level=core", f"--retryspool-{kind}={url}")
    run(python, "-m", "pytest", "--pyargs", "retryspool.conformance", *options, cwd=scratch)


def main() -> None:
    """Build, install, use."""
    names = sorted(path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml"))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        dist = scratch / "dist"
        run(UV, "build", "--all-packages", "--out-dir", dist, cwd=ROOT)
        run(UV, "build", "--wheel", "--out-dir", dist, EXAMPLE, cwd=ROOT)
        wheels = {  # by path: a name would ask PyPI for it too
            name: next(dist.glob(f"{name.replace('-', '_')}-{project(name)['version']}-*.whl")) for name in names
        }
        for name in names:
            extras = f"[{','.join(project(name).get('optional-dependencies', {}))}]".replace("[]", "")
            chosen = [f"{wheels[other]}{extras if other == name else ''}" for other in siblings(name, names)]
            python = environment(scratch, name, *chosen)
            for module in (path.parent.name for path in (ROOT / "packages" / name / "src").glob("*/__init__.py")):
                run(python, "-c", IMPORTED, name, module, cwd=scratch)
            print(f"{wheels[name].name}: installs alone and works", flush=True)
            if name.endswith(("-meta", "-data")):
                run(UV, "pip", "install", "--python", python, f"{wheels['retryspool-core']}[conformance]", cwd=scratch)
                prove(python, name, scratch)
                print(f"{wheels[name].name}: alone, and keeps the core of the contract", flush=True)
            if name in MIDDLEWARE:
                run(UV, "pip", "install", "--python", python, f"{wheels['retryspool-core']}[conformance]", cwd=scratch)
                if name == "retryspool-encryption":
                    run(python, "-m", "retryspool_encryption", "new-key", "key", cwd=scratch)
                suite(python, "middleware", MIDDLEWARE[name], scratch)
                print(f"{wheels[name].name}: keeps the core of the contract", flush=True)
        example = next(dist.glob("retryspool_onefile_meta-*.whl"))
        python = scratch / "example" / "bin" / "python"
        run(sys.executable, "-m", "venv", scratch / "example", cwd=scratch)
        run(python, "-m", "pip", "install", "-q", f"{wheels['retryspool-core']}[conformance]", example, cwd=scratch)
        found = f"from retryspool import open_meta; open_meta('onefile:{scratch}/there/records.json').close()"
        run(python, "-c", found, cwd=scratch)
        tests = shutil.copytree(EXAMPLE / "tests", scratch / "tests")
        run(python, "-m", "pytest", *PLAIN, tests, cwd=scratch)
        print(f"{example.name}: found by name, and its own tests, the suite, pass", flush=True)


if __name__ == "__main__":
    main()
