"""The methods of compression, each made of its library's one-shot calls.

None allocates by what the compressed bytes say of themselves: a block that claims to be larger than its head says is
refused before.
"""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

import zstandard

from retryspool.errors import PluginLoadError

__all__ = ["DeflateCodec", "Lz4Codec", "ZstdCodec", "lz4_block"]


class _Contexts(threading.local):
    """A thread's own contexts: they aren't safe to share, and dear to make for each small payload."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


@dataclass(frozen=True, slots=True)
class ZstdCodec:
    """Zstandard (RFC 8878): frames that tell their size; the checksum is the block's business."""

    level: int

    def compress(self, block: bytes | memoryview, /) -> bytes:
        """Compress a block."""
        compressor = _contexts.compressors.get(self.level)
        if compressor is None:
            compressor = zstandard.ZstdCompressor(level=self.level, write_checksum=False, write_content_size=True)
            _contexts.compressors[self.level] = compressor
        return compressor.compress(block)

    def decompress(self, stored: bytes, plain: int, /) -> bytes:
        """Return the plain bytes."""
        try:
            size = zstandard.frame_content_size(stored)
            if size != plain:
                raise ValueError(f"it says that it is {size} bytes, not {plain}")
            return _contexts.decompressor.decompress(stored, max_output_size=plain, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True, slots=True)
class DeflateCodec:
    """Deflate in the wrapping of gzip (RFC 1952) or zlib (RFC 1950), by `zlib`'s `wbits`."""

    level: int
    wbits: int

    def compress(self, block: bytes | memoryview, /) -> bytes:
        """Compress a block."""
        return zlib.compress(block, self.level, self.wbits)

    def decompress(self, stored: bytes, plain: int, /) -> bytes:
        """Return the plain bytes."""
        inflating = zlib.decompressobj(self.wbits)
        try:
            found = inflating.decompress(stored, plain)
            rest = inflating.decompress(inflating.unconsumed_tail, 1)  # the end, and no more bytes before it
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if rest or not inflating.eof or inflating.unused_data:
            raise ValueError(f"it doesn't end after {plain} bytes")
        return found


class _Lz4Block(Protocol):
    """What is used of `lz4.block`, which has no types of its own."""

    LZ4BlockError: type[Exception]

    def compress(self, source: bytes | memoryview, *, mode: str, compression: int, store_size: bool) -> bytes: ...

    def decompress(self, source: bytes, *, uncompressed_size: int) -> bytes: ...


def lz4_block() -> _Lz4Block:
    """Return the library.

    :raises PluginLoadError: it isn't installed
    """
    try:
        return cast("_Lz4Block", import_module("lz4.block"))
    except ImportError as error:
        raise PluginLoadError('lz4 needs its package: pip install "retryspool-compression[lz4]"') from error


@dataclass(frozen=True, slots=True)
class Lz4Codec:
    """LZ4 blocks; level 0 is the fast method, higher ones the slower."""

    level: int

    def compress(self, block: bytes | memoryview, /) -> bytes:
        """Compress a block."""
        mode = "high_compression" if self.level else "default"
        return lz4_block().compress(block, mode=mode, compression=self.level, store_size=False)

    def decompress(self, stored: bytes, plain: int, /) -> bytes:
        """Return the plain bytes."""
        library = lz4_block()
        try:
            return library.decompress(stored, uncompressed_size=plain)
        except library.LZ4BlockError as error:
            raise ValueError(str(error)) from error
