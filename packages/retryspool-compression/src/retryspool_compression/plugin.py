"""Offers the middleware under the names `zstd`, `gzip`, `zlib` and `lz4`."""

from retryspool.middleware import Middleware
from retryspool.plugins import hookimpl
from retryspool_compression.methods import Gzip, Lz4, Zlib, Zstd

__all__ = ["retryspool_middlewares"]


@hookimpl
def retryspool_middlewares() -> list[type[Middleware]]:
    """Offer all four; lz4 says what to install when it is used without its package."""
    return [Zstd, Gzip, Zlib, Lz4]
