"""Plugins: backends and middleware that are found by name once they are installed.

A distribution offers them through the entry-point group `retryspool`: an entry point names a module with hook
implementations, those of `retryspool.plugins.hookspecs`. RetrySpool's own backends use nothing else.
"""

from retryspool.plugins.hookspecs import hookimpl
from retryspool.plugins.registry import (
    FailedPlugin,
    PluginInfo,
    Registry,
    data_factory_at,
    get_data_factory,
    get_meta_factory,
    get_middleware,
    meta_factory_at,
    middleware_at,
    open_data,
    open_meta,
    registry,
    split_middleware,
)

__all__ = [
    "FailedPlugin",
    "PluginInfo",
    "Registry",
    "data_factory_at",
    "get_data_factory",
    "get_meta_factory",
    "get_middleware",
    "hookimpl",
    "meta_factory_at",
    "middleware_at",
    "open_data",
    "open_meta",
    "registry",
    "split_middleware",
]
