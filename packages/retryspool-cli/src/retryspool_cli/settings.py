"""Which spool is meant: by option, else by environment, else by `retryspool.toml`.

The first of the three that names a spool decides alone, so that a half of one is never mixed with a half of another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click

from retryspool_cli.exits import WrongUsageError

if TYPE_CHECKING:
    from retryspool import Queue

__all__ = ["CONFIG_FILE", "Given", "Settings", "load_settings", "open_queue", "settings_of", "spool_options"]

CONFIG_FILE = "retryspool.toml"
_KEYS = ("spool", "meta", "data")
_LISTS = {"middleware": '["zstd:?level=3"]', "observers": '["otel"]'}
"""Lists of names, with an example of each."""
_TABLES = ("queue", "retry_policies", "routes")

Function = TypeVar("Function", bound=Callable[..., object])


@dataclass(slots=True)
class Given:
    """The options that name a spool, as they were given before or after the command's name."""

    spool: str | None = None
    meta: str | None = None
    data: str | None = None
    config: str | None = None
    middleware: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """A spool's address, and the options to open it with."""

    spool: Path | None = None
    meta: str | None = None
    data: str | None = None
    source: str = ""
    """Where the address comes from, for errors: `--spool`, `RETRYSPOOL_SPOOL`, `retryspool.toml`."""
    middleware: tuple[str, ...] = ()
    """What payloads go through, in order: names such as `zstd`, or URLs such as `zstd:?level=3`."""
    observers: tuple[str, ...] = ()
    """Who is told of each message, where a command's own option names nobody: names such as `otel`."""
    queue: Mapping[str, object] = field(default_factory=dict[str, object])
    """Options of the queue, from the file's table `[queue]`."""
    retry_policies: Mapping[str, str] = field(default_factory=dict[str, str])
    """Retry policies by name, as they are written in the file's table `[retry_policies]`."""
    routes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Limits by route, as they are written in the file's table `[routes]`."""

    @property
    def address(self) -> tuple[str, ...]:
        """The options that name the same spool to another `retryspool` process."""
        stages = tuple(part for stage in self.middleware for part in ("--middleware", stage))
        if self.spool is not None:
            return ("--spool", str(self.spool), *stages)
        return ("--meta", self.meta or "", "--data", self.data or "", *stages)

    def __str__(self) -> str:
        if self.spool is not None:
            return str(self.spool)
        from retryspool.urls import redact

        return f"{redact(self.meta or '')} + {redact(self.data or '')}"


def _remember(ctx: click.Context, param: click.Parameter, value: str | tuple[str, ...] | None) -> None:
    given = ctx.find_object(Given)
    if given is not None and value is not None and value != ():
        setattr(given, param.name, value)


_OPTIONS = (
    ("--spool", "FOLDER", "The spool: a folder. Also RETRYSPOOL_SPOOL."),
    ("--meta", "URL", "Or where its records are … Also RETRYSPOOL_META."),
    ("--data", "URL", "… and where its payloads are. Also RETRYSPOOL_DATA."),
    ("--middleware", "NAME", "What payloads go through, such as zstd:?level=3; in order. Also RETRYSPOOL_MIDDLEWARE."),
    ("--config", "FILE", f"Settings. By default ./{CONFIG_FILE}, if there is one."),
)


def spool_options(function: Function) -> Function:
    """Let a command take the options that name the spool; it finds them by `settings_of`, not among its arguments."""
    for name, metavar, text in reversed(_OPTIONS):
        several = name == "--middleware"
        option = click.option(
            name, metavar=metavar, help=text, expose_value=False, callback=_remember, multiple=several
        )
        function = option(function)
    return function


def load_settings(given: Given, environ: Mapping[str, str], folder: Path) -> Settings:
    """Find out which spool is meant.

    :param folder: where `retryspool.toml` is looked for
    :raises WrongUsageError: no spool is named, or only half of one, or two; or the file isn't right
    """
    content, file = _read_config(given.config, folder)
    queue = _table(content, "queue", file)
    policies, routes = (
        {name: str(spec) for name, spec in _table(content, table, file).items()}
        for table in ("retry_policies", "routes")
    )
    listed = {key: _listed(key, environ, content, file) for key in _LISTS}
    sources = (
        _Source("--{key}", {key: getattr(given, key) for key in _KEYS}, Path()),
        _Source("RETRYSPOOL_{KEY}", {key: environ.get(f"RETRYSPOOL_{key.upper()}") or None for key in _KEYS}, Path()),
        _Source(f"{file}: {{key}}", {key: content.get(key) for key in _KEYS}, file.parent),
    )
    for source in sources:
        if source.names_any:
            return replace(
                source.settings(),
                middleware=given.middleware or listed["middleware"],
                observers=listed["observers"],
                queue=queue,
                retry_policies=policies,
                routes=routes,
            )
    msg = (
        "which spool? Name it with --spool FOLDER (or --meta URL and --data URL), "
        f'RETRYSPOOL_SPOOL, or spool = "…" in {CONFIG_FILE}'
    )
    raise WrongUsageError(msg)


def _listed(key: str, environ: Mapping[str, str], content: Mapping[str, object], file: Path) -> tuple[str, ...]:
    """Return the names that the environment lists, or else the file; whoever named the spool."""
    listed: object = content.get(key, [])
    names = [str(name) for name in cast("list[object]", listed)] if isinstance(listed, list) else None
    if names is None or names != listed or not all(names):
        msg = f"{file}: {key} must be a list of names, such as {_LISTS[key]}"
        raise WrongUsageError(msg)
    return tuple(environ.get(f"RETRYSPOOL_{key.upper()}", "").split()) or tuple(names)


@dataclass(frozen=True, slots=True)
class _Source:
    """One of the places that may name a spool, and what stands there."""

    title: str
    named: Mapping[str, object]
    base: Path
    """What a relative folder is relative to."""

    def name(self, key: str) -> str:
        return self.title.format(key=key, KEY=key.upper())

    @property
    def names_any(self) -> bool:
        return any(value is not None for value in self.named.values())

    def settings(self) -> Settings:
        for key, value in self.named.items():
            if value is not None and (not isinstance(value, str) or not value):
                msg = f"{self.name(key)} must be a text that isn't empty"
                raise WrongUsageError(msg)
        spool, meta, data = (cast("str | None", self.named[key]) for key in _KEYS)
        if spool is None:
            if meta is None or data is None:
                there, missing = ("meta", "data") if data is None else ("data", "meta")
                msg = f"{self.name(there)} is half a spool: {self.name(missing)} is missing"
                raise WrongUsageError(msg)
            return Settings(meta=meta, data=data, source=f"{self.name('meta')} and {self.name('data')}")
        if meta is not None or data is not None:
            other = self.name("meta" if meta is not None else "data")
            msg = f"{self.name('spool')} names a whole spool; leave out {other}"
            raise WrongUsageError(msg)
        return Settings(spool=self.base / Path(spool).expanduser(), source=self.name("spool"))


def _read_config(config: str | None, folder: Path) -> tuple[dict[str, object], Path]:
    import tomllib

    path = folder / CONFIG_FILE if config is None else Path(config)
    try:
        content: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if config is None:
            return {}, path
        msg = f"--config {config}: there is no such file"
        raise WrongUsageError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{path}: {error}"
        raise WrongUsageError(msg) from error
    known = (*_KEYS, *_LISTS, *_TABLES)
    unknown = sorted(set(content) - set(known))
    if unknown:
        msg = f"{path}: there is no setting {unknown[0]!r}; there are: {', '.join(known)}"
        raise WrongUsageError(msg)
    return content, path


def _table(content: Mapping[str, object], name: str, file: Path) -> Mapping[str, object]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        msg = f"{file}: {name} must be a table"
        raise WrongUsageError(msg)
    return cast("dict[str, object]", table)


def settings_of(ctx: click.Context) -> Settings:
    """Return the settings for this call of the command."""
    return load_settings(ctx.find_object(Given) or Given(), os.environ, Path())


def _without(written: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in written.items() if name not in names}


def open_queue(
    settings: Settings,
    *,
    create: bool = False,
    policies: Mapping[str, str] | None = None,
    routes: Mapping[str, str] | None = None,
    **options: object,
) -> Queue:
    """Open the spool that is meant.

    :param create: make a folder that isn't there; a command that only looks would hide a mistyped name by that
    :param policies: retry policies by name, as they are written, before those of the file
    :param routes: limits by route, as they are written, before those of the file
    :param options: the queue's options, before those of the file; one that is None is left to the file
    :raises WrongUsageError: the folder isn't there, or an option isn't one
    """
    if settings.spool is not None and not create and not settings.spool.is_dir():
        msg = f"there is no spool at {str(settings.spool)!r} ({settings.source}); `retryspool enqueue` makes one"
        raise WrongUsageError(msg)
    from retryspool import Queue
    from retryspool.queue import QueueSettings
    from retryspool_cli.policies import parse_policies
    from retryspool_cli.routes import parse_routes

    unknown = sorted(set(settings.queue) - set(QueueSettings.__annotations__))
    if unknown:
        there = ", ".join(QueueSettings.__annotations__)
        msg = f"{CONFIG_FILE}: [queue] has no option {unknown[0]!r}; there are: {there}"
        raise WrongUsageError(msg)
    given = {name: value for name, value in options.items() if value is not None}
    return Queue.open(
        settings.spool,
        meta=settings.meta,
        data=settings.data,
        middleware=settings.middleware,
        policies=parse_policies({**settings.retry_policies, **(policies or {})}),
        routes=parse_routes({**(routes or {}), **_without(settings.routes, routes or {})}),
        **cast("QueueSettings", {**settings.queue, **given}),
    )
