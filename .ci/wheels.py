"""Build every distribution, then install each into an empty environment, with no more than it asks for, and import it.

What stands in the working tree hides what a wheel forgets: a module, py.typed, a dependency.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
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


def main() -> None:
    """Build, install, use."""
    names = sorted(path.parent.name for path in (ROOT / "packages").glob("*/pyproject.toml"))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        dist = scratch / "dist"
        run(UV, "build", "--all-packages", "--out-dir", dist, cwd=ROOT)
        for name in names:
            wheels = {  # by path: a name would ask PyPI for it too
                other: next(dist.glob(f"{other.replace('-', '_')}-{project(other)['version']}-*.whl"))
                for other in siblings(name, names)
            }
            python = scratch / name / "bin" / "python"
            run(UV, "venv", "--python", sys.executable, scratch / name, cwd=scratch)
            extras = f"[{','.join(project(name).get('optional-dependencies', {}))}]".replace("[]", "")
            chosen = [f"{wheel}{extras if other == name else ''}" for other, wheel in wheels.items()]
            run(UV, "pip", "install", "--python", python, *chosen, cwd=scratch)
            run(UV, "pip", "check", "--python", python, cwd=scratch)
            for module in (path.name for path in (ROOT / "packages" / name / "src").glob("*/")):
                run(python, "-c", IMPORTED, name, module, cwd=scratch)
            print(f"{wheels[name].name}: installs alone and works", flush=True)


if __name__ == "__main__":
    main()
