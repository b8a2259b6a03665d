"""The whole plugin surface: three hooks."""

from collections.abc import Sequence

import pluggy

from retryspool.data import DataFactory
from retryspool.meta import MetaFactory
from retryspool.middleware import Middleware

__all__ = ["hookimpl", "retryspool_data_factories", "retryspool_meta_factories", "retryspool_middlewares"]

hookspec = pluggy.HookspecMarker("retryspool")
hookimpl = pluggy.HookimplMarker("retryspool")
"""Marks a plugin's implementations of these hooks."""


@hookspec
def retryspool_meta_factories() -> Sequence[type[MetaFactory]]:  # type: ignore[empty-body]
    """Return the metadata backends' factories; each is found by its `name`."""


@hookspec
def retryspool_data_factories() -> Sequence[type[DataFactory]]:  # type: ignore[empty-body]
    """Return the data backends' factories; each is found by its `name`."""


@hookspec
def retryspool_middlewares() -> Sequence[type[Middleware]]:  # type: ignore[empty-body]
    """Return the middleware classes; each is found by its `name`."""
