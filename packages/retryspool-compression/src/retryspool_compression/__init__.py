"""Compression of RetrySpool's message payloads: zstd, gzip, zlib and lz4."""

from retryspool_compression.methods import Gzip, Lz4, Zlib, Zstd

__all__ = ["Gzip", "Lz4", "Zlib", "Zstd"]
