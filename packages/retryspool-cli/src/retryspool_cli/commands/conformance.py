"""`conformance`: whether a backend, or a middleware, keeps the contract."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import click

from retryspool_cli.exits import FAILED, INTERRUPTED, OK, USAGE, CommandError, WrongUsageError
from retryspool_cli.output import note

__all__ = ["conformance_command"]

_LEVELS = "core,concurrent,durable,network"
_EXIT_CODES = {0: OK, 2: INTERRUPTED, 4: USAGE}
"""Of pytest's; all others, a test that failed among them, are a failure."""

Kind = Literal["meta", "data", "middleware"]


@click.command("conformance")
@click.argument("backend", metavar="URL|NAME")
@click.option("--kind", type=click.Choice(["meta", "data", "middleware"]), help="Needed where a name is that of both.")
@click.option(
    "--profile",
    type=click.Choice(["quick", "ci", "nightly"]),
    default="quick",
    show_default=True,
    help="How much: under a minute, minutes, hours.",
)
@click.option("--level", metavar="LEVELS", default=_LEVELS, show_default=True, help="Which levels.")
@click.option("--clause", metavar="CLAUSES", help="Only the tests of these clauses, such as META-14,META-15.")
@click.option(
    "--report", metavar="FILE", multiple=True, help="Write the report: JSON, or Markdown by its ending .md. Repeatable."
)
@click.option("--seed", type=int, metavar="NUMBER", help="Of all that is random; a report tells it.")
def conformance_command(
    *,
    backend: str,
    kind: Kind | None,
    profile: str,
    level: str,
    clause: str | None,
    report: Sequence[str],
    seed: int | None,
) -> int:
    """Prove a backend or a middleware against the contract.

    The backend is named by its URL: the suite works in namespaces of its own there, and removes them. A name alone,
    such as redis, stands for a throw-away server from a wheel, or for a temporary folder; that of a middleware, such as
    zstd, for its defaults.

    Exits with 1 if a clause is broken. What runs is pytest, with the suite that comes with the core:
    pip install 'retryspool-core[conformance]'.
    """
    for package in ("pytest", "hypothesis"):
        if find_spec(package) is None:
            msg = f"the suite needs {package}, which isn't installed: pip install 'retryspool-core[conformance]'"
            raise CommandError(msg)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="retryspool-conformance-")))
        found = kind or _kind(backend)
        url = backend if ":" in backend or found == "middleware" else _url(backend, found, folder, stack)
        _by_url()[found](url)  # its errors come before the suite's
        options = {"profile": profile, "level": level, "clause": clause, "seed": seed, found: url}
        given = [f"--retryspool-{name}={value}" for name, value in options.items() if value is not None]
        return _run([*given, *(f"--retryspool-report={file}" for file in report)], folder)


def _by_url() -> Mapping[Kind, Callable[[str], object]]:
    """Return what finds a backend, or a middleware, by its URL or, without settings, the latter's name."""
    from retryspool.plugins import data_factory_at, meta_factory_at, middleware_at

    return {"meta": meta_factory_at, "data": data_factory_at, "middleware": middleware_at}


def _by_name() -> Mapping[Kind, Callable[[str], object]]:
    from retryspool.plugins import get_data_factory, get_meta_factory, get_middleware

    return {"meta": get_meta_factory, "data": get_data_factory, "middleware": get_middleware}


def _kind(backend: str) -> Kind:
    """Return which kind of backend is meant.

    :raises WrongUsageError: it may be either
    :raises CommandError: it's neither
    """
    from retryspool import PluginError
    from retryspool.urls import redact

    found: list[Kind] = []
    problems: list[str] = []
    for kind, find in (_by_url() if ":" in backend else _by_name()).items():
        try:
            find(backend)
        except PluginError as problem:
            problems.append(str(problem))
        else:
            found.append(kind)
    if not found:
        raise CommandError("; ".join(problems))
    if len(found) > 1:
        msg = f"{redact(backend)} may be a metadata or a data backend: add --kind meta or --kind data"
        raise WrongUsageError(msg)
    return found[0]


def _url(name: str, kind: Kind, folder: Path, stack: ExitStack) -> str:
    """Return the URL of a place for the suite, by the name of a backend that is installed."""
    from retryspool_cli.servers import SERVERS

    _by_name()[kind](name)
    if name == "fs":
        return f"fs:{quote(str(folder))}/spool"
    if name == "memory":
        return "memory:conformance"
    if name not in SERVERS:
        msg = f"there's no throw-away server for {name}; give the URL of one that runs"
        raise WrongUsageError(msg)
    note(f"starting {SERVERS[name].title}")
    return stack.enter_context(SERVERS[name]()).url


def _run(options: Sequence[str], folder: Path) -> int:
    """Run the suite in a process of its own, apart from the configuration and the tests of any project around."""
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly")  # the suite has its seed
    apart = ("-c", os.devnull, "--rootdir", str(folder), "--noconftest")
    done = subprocess.run(  # noqa: S603 -- this very Python
        [*pytest, *apart, "--pyargs", "retryspool.conformance", *options],
        env={
            **{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
        },
        check=False,
    )
    return _EXIT_CODES.get(done.returncode, FAILED)
