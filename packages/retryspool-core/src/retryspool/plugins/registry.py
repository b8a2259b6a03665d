"""The plugins that are installed, found by name and by URL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

import pluggy

from retryspool.data import DataBackend, DataFactory
from retryspool.errors import DuplicatePluginError, PluginLoadError, UnknownPluginError
from retryspool.meta import MetaBackend, MetaFactory
from retryspool.middleware import Middleware
from retryspool.namespaces import split_namespace, split_setting
from retryspool.plugins import hookspecs
from retryspool.urls import scheme_of

__all__ = [
    "ENTRY_POINT_GROUP",
    "PLUGINS_VARIABLE",
    "FailedPlugin",
    "PluginInfo",
    "Registry",
    "data_factory_at",
    "get_data_factory",
    "get_meta_factory",
    "get_middleware",
    "meta_factory_at",
    "middleware_at",
    "open_data",
    "open_meta",
    "registry",
    "split_middleware",
]

ENTRY_POINT_GROUP = "retryspool"
PLUGINS_VARIABLE = "RETRYSPOOL_PLUGINS"
"""Environment variable: the names of the entry points to load, separated by commas; all of them if it isn't set."""

_OURS = {
    "meta": {
        "fs": "retryspool-fs-meta",
        "redis": "retryspool-redis-meta",
        "pg": "retryspool-pg-meta",
        "sqlite": "retryspool-sqlite-meta",
        "etcd": "retryspool-etcd-meta",
        "nats": "retryspool-nats-meta",
    },
    "data": {
        "fs": "retryspool-fs-data",
        "pg": "retryspool-pg-data",
        "s3": "retryspool-s3-data",
        "nats": "retryspool-nats-data",
        "azure": "retryspool-azure-data",
        "gcs": "retryspool-gcs-data",
    },
    "middleware": {
        "zstd": "retryspool-compression",
        "gzip": "retryspool-compression",
        "zlib": "retryspool-compression",
        "lz4": "retryspool-compression[lz4]",
        "compression": "retryspool-compression",
        "aes-256-gcm": "retryspool-encryption",
        "chacha20-poly1305": "retryspool-encryption",
        "encryption": "retryspool-encryption",
    },
}
"""What an error about an unknown name suggests to install: a convenience, nothing is looked up through it."""

Plugin = TypeVar("Plugin", MetaFactory, DataFactory, Middleware)


@dataclass(frozen=True, slots=True)
class PluginInfo(Generic[Plugin]):
    """One backend or middleware on offer."""

    name: str
    plugin: type[Plugin]
    distribution: str


def _offer(plugin: object, kind: type[Plugin], distribution: str) -> PluginInfo[Plugin]:
    if not (isinstance(plugin, type) and issubclass(plugin, kind) and isinstance(getattr(plugin, "name", None), str)):
        msg = f"{plugin!r} is not a subclass of {kind.__name__} with a name"
        raise TypeError(msg)
    return PluginInfo(plugin.name, plugin, distribution)


@dataclass(frozen=True, slots=True)
class FailedPlugin:
    """An entry point that can't be used: its module doesn't import, or what it offers is nothing of the kind."""

    entry_point: str
    distribution: str
    error: Exception


class _Kind(Generic[Plugin]):
    """The plugins of one kind, by name."""

    def __init__(self, kind: str, offers: Iterable[PluginInfo[Plugin]], failed: Sequence[FailedPlugin]) -> None:
        self._kind = kind
        self._failed = failed
        self._by_name: dict[str, list[PluginInfo[Plugin]]] = {}
        for offer in offers:
            self._by_name.setdefault(offer.name, []).append(offer)

    def of_scheme(self, scheme: str) -> type[Plugin]:
        """Return the plugin whose URLs have this scheme: its name, or one of its further ones; a name goes first."""
        names = {info.name for info in self.all() if scheme in getattr(info.plugin, "schemes", ())}
        if scheme in self._by_name or not names:
            return self.get(scheme)
        if len(names) > 1:
            msg = (
                f"{self._kind} URLs of scheme {scheme!r} are taken by each of {', '.join(sorted(names))}; uninstall one"
            )
            raise DuplicatePluginError(msg)
        return self.get(names.pop())

    def all(self) -> list[PluginInfo[Plugin]]:
        return [offer for _, offers in sorted(self._by_name.items()) for offer in offers]

    def get(self, name: str) -> type[Plugin]:
        found = self._by_name.get(name, [])
        if len(found) == 1:
            return found[0].plugin
        if found:
            who = " and ".join(sorted(info.distribution for info in found))
            msg = f"{self._kind} {name!r} is offered by both {who}; uninstall one, or choose with {PLUGINS_VARIABLE}"
            raise DuplicatePluginError(msg)
        package = _OURS[self._kind].get(name)
        text = f"there is no {self._kind} {name!r}; installed: {', '.join(sorted(self._by_name)) or 'none'}"
        if PLUGINS_VARIABLE in os.environ:
            text += f" ({PLUGINS_VARIABLE} keeps others from loading)"
        # A distribution that is there but broken is the likely culprit: to install it again would not help.
        distribution = None if package is None else package.partition("[")[0]
        broken = [plugin for plugin in self._failed if distribution in {None, plugin.distribution}]
        if broken:
            which = "; ".join(f"{plugin.distribution}: {plugin.error!r}" for plugin in broken)
            msg = f"{text}. Failed to load: {which}"
            raise PluginLoadError(msg) from broken[0].error
        if package is not None:
            text += f". To add it: pip install {package}"
        raise UnknownPluginError(text)


@dataclass(frozen=True, slots=True)
class _Installed:
    meta: _Kind[MetaFactory]
    data: _Kind[DataFactory]
    middleware: _Kind[Middleware]
    failed: Sequence[FailedPlugin]


class Registry:
    """The plugins of the installed distributions, loaded when they are first asked for.

    :param find: where entry points come from; for tests of it
    """

    def __init__(self, find: Callable[[], Iterable[EntryPoint]] | None = None) -> None:
        self._find = find or (lambda: entry_points(group=ENTRY_POINT_GROUP))

    @cached_property
    def _installed(self) -> _Installed:
        manager = pluggy.PluginManager("retryspool")
        manager.add_hookspecs(hookspecs)
        failed: list[FailedPlugin] = []
        entries: dict[str, tuple[EntryPoint, str]] = {}
        for entry_point in self._chosen():
            distribution = entry_point.dist.name if entry_point.dist else "an unknown distribution"
            unique = f"{distribution}:{entry_point.name}"
            if unique in entries:  # a distribution that is on the path twice
                continue
            entries[unique] = entry_point, distribution
            try:
                manager.register(entry_point.load(), name=unique)
            except Exception as error:  # noqa: BLE001 -- a plugin may fail in any way; it breaks nothing but itself
                failed.append(FailedPlugin(entry_point.name, distribution, error))

        def offers(hook: str, kind: type[Plugin]) -> list[PluginInfo[Plugin]]:
            found: list[PluginInfo[Plugin]] = []
            for implementation in getattr(manager.hook, hook).get_hookimpls():
                entry_point, distribution = entries[implementation.plugin_name]
                try:
                    found += [_offer(plugin, kind, distribution) for plugin in implementation.function()]
                except Exception as error:  # noqa: BLE001 -- as above
                    failed.append(FailedPlugin(entry_point.name, distribution, error))
            return found

        # mypy takes no abstract class for a type, though none is made here (python/mypy#4717).
        return _Installed(
            meta=_Kind("meta", offers("retryspool_meta_factories", MetaFactory), failed),  # type: ignore[type-abstract]
            data=_Kind("data", offers("retryspool_data_factories", DataFactory), failed),  # type: ignore[type-abstract]
            middleware=_Kind("middleware", offers("retryspool_middlewares", Middleware), failed),  # type: ignore[type-abstract]
            failed=failed,
        )

    def _chosen(self) -> list[EntryPoint]:
        found = sorted(self._find(), key=lambda entry_point: entry_point.name)
        restriction = os.environ.get(PLUGINS_VARIABLE)
        if restriction is None:
            return found
        wanted = {name.strip() for name in restriction.split(",")}
        return [entry_point for entry_point in found if entry_point.name in wanted]

    @property
    def failed(self) -> Sequence[FailedPlugin]:
        """The plugins that are installed and can't be used."""
        return self._installed.failed

    def meta_factories(self) -> Sequence[PluginInfo[MetaFactory]]:
        """Return the metadata backends on offer, by name."""
        return self._installed.meta.all()

    def data_factories(self) -> Sequence[PluginInfo[DataFactory]]:
        """Return the data backends on offer, by name."""
        return self._installed.data.all()

    def middlewares(self) -> Sequence[PluginInfo[Middleware]]:
        """Return the middleware on offer, by name."""
        return self._installed.middleware.all()

    def get_meta_factory(self, name: str) -> type[MetaFactory]:
        """Return the metadata backend's factory of this name.

        :raises UnknownPluginError: there's none; the message says which there are, and what to install
        :raises DuplicatePluginError: two distributions offer it; the message names them
        :raises PluginLoadError: there's none, but a plugin failed to load that may have offered it
        """
        return self._installed.meta.get(name)

    def get_data_factory(self, name: str) -> type[DataFactory]:
        """Return the data backend's factory of this name; raises as `get_meta_factory` does."""
        return self._installed.data.get(name)

    def get_middleware(self, name: str) -> type[Middleware]:
        """Return the middleware of this name; raises as `get_meta_factory` does."""
        return self._installed.middleware.get(name)

    def middleware_at(self, url: str) -> Middleware:
        """Return the middleware that a name, or a URL such as `zstd:?level=3`, describes.

        :raises InvalidUrlError: it doesn't parse, or has a setting that the middleware doesn't know
        """
        name = url.partition(":")[0].partition("?")[0]
        rest = url.removeprefix(name).removeprefix(":")
        return self._installed.middleware.get(name).from_url(f"{name}:{rest}")

    def meta_factory_at(self, url: str) -> MetaFactory:
        """Return the factory that a URL describes; its scheme is a name, or one of the factory's `schemes`.

        Any backend's URL may have the setting `namespace`, which makes it the factory of that namespace.

        :raises InvalidUrlError: it doesn't parse, or has a setting that the backend doesn't know
        :raises NotSupportedError: it has a namespace, and the backend knows none
        """
        rest, namespace = split_namespace(url)
        factory = self._installed.meta.of_scheme(scheme_of(rest)).from_url(rest)
        return factory if namespace is None else factory.in_namespace(namespace)

    def data_factory_at(self, url: str) -> DataFactory:
        """Return the factory that a URL describes; as `meta_factory_at` does."""
        rest, namespace = split_namespace(url)
        factory = self._installed.data.of_scheme(scheme_of(rest)).from_url(rest)
        return factory if namespace is None else factory.in_namespace(namespace)

    def open_meta(self, url: str) -> MetaBackend:
        """Open a metadata backend by URL; raises as `meta_factory_at` and the factory's `create` do."""
        return self.meta_factory_at(url).create()

    def open_data(self, url: str) -> DataBackend:
        """Open a data backend by URL; raises as `data_factory_at` and the factory's `create` do."""
        return self.data_factory_at(url).create()


def split_middleware(url: str) -> tuple[str, list[str]]:
    """Take the setting `middleware` out of a data backend's URL.

    :returns: the URL without it, and the middleware that it names, in order: names and URLs, separated by commas
    :raises InvalidUrlError: it is given twice
    """
    rest, named = split_setting(url, "middleware")
    return rest, [stage for stage in (named or "").split(",") if stage]


registry = Registry()
"""The plugins of this Python environment."""

get_meta_factory = registry.get_meta_factory
get_data_factory = registry.get_data_factory
get_middleware = registry.get_middleware
meta_factory_at = registry.meta_factory_at
middleware_at = registry.middleware_at
data_factory_at = registry.data_factory_at
open_meta = registry.open_meta
open_data = registry.open_data
