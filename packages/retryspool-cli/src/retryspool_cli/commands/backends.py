"""`backends`: what is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import click

from retryspool_cli.observers import installed_observers
from retryspool_cli.output import json_option, new_table, print_json, print_table, printable

__all__ = ["backends_command"]


@click.command("backends")
@json_option
def backends_command(as_json: bool) -> None:
    """List the backends, the middleware and the observers that are installed.

    Those that failed to load too, with their error. With --json one document:
    `{"plugins": [{"kind", "name", "distribution", "version"}], "failed": [{"entry_point", "distribution", "error"}]}`.
    """
    from retryspool.plugins import registry

    offers = [
        *(("meta", info.name, info.distribution) for info in registry.meta_factories()),
        *(("data", info.name, info.distribution) for info in registry.data_factories()),
        *(("middleware", info.name, info.distribution) for info in registry.middlewares()),
        *(("observer", one.name, one.dist.name if one.dist else "unknown") for one in installed_observers()),
    ]
    failed = [
        (one.entry_point, one.distribution, f"{type(one.error).__name__}: {one.error}") for one in registry.failed
    ]
    if as_json:
        keys = ("kind", "name", "distribution", "version")
        plugins = [dict(zip(keys, (*offer, _version(offer[2])), strict=True)) for offer in offers]
        failures = [dict(zip(("entry_point", "distribution", "error"), one, strict=True)) for one in failed]
        print_json({"plugins": plugins, "failed": failures}, indent=2)
        return
    table = new_table("KIND", "NAME", "DISTRIBUTION", "VERSION")
    for kind, name, distribution in offers:
        table.add_row(kind, printable(name), printable(distribution), _version(distribution) or "-")
    print_table(table)
    if failed:
        click.echo()
        broken = new_table("FAILED", "DISTRIBUTION", "ERROR", wrap=("ERROR",))
        for entry_point, distribution, text in failed:
            broken.add_row(printable(entry_point), printable(distribution), printable(text))
        print_table(broken)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
