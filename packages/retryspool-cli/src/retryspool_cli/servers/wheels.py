"""Where the wheels have put their servers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from importlib.util import find_spec
from pathlib import Path

from retryspool_cli.servers.errors import MissingWheelError

__all__ = ["find_file", "find_package"]


def find_package(package: str, *, server: str, requirement: str) -> Path:
    """Return the folder of a package, without importing it.

    :raises MissingWheelError: it isn't installed
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingWheelError(server, requirement)
    return Path(spec.submodule_search_locations[0])


def find_file(name: str, *, server: str, requirement: str) -> Path:
    """Return a file that a distribution has installed anywhere, such as beside Python itself.

    :raises MissingWheelError: it isn't installed
    """
    try:
        installed = files(requirement) or []
    except PackageNotFoundError:
        installed = []
    for file in installed:
        if file.name == name:
            return Path(str(file.locate())).resolve()
    raise MissingWheelError(server, requirement)
