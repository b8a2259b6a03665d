"""Middleware: what happens to a payload's bytes between the user and the data backend (compression, encryption …)."""

from retryspool.middleware.blocks import BlockReader, BlockWriter, read_exactly
from retryspool.middleware.interface import Middleware, MiddlewareCapabilities, settings_of

__all__ = ["BlockReader", "BlockWriter", "Middleware", "MiddlewareCapabilities", "read_exactly", "settings_of"]
