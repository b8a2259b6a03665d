"""The middleware, one class a method."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Self

from retryspool.errors import InvalidOptionError
from retryspool.middleware import Middleware, MiddlewareCapabilities, settings_of
from retryspool_compression.codecs import DeflateCodec, Lz4Codec, ZstdCodec, lz4_block
from retryspool_compression.streams import Codec, CompressingWriter, DecompressingReader

__all__ = ["Gzip", "Lz4", "Zlib", "Zstd"]


class _Compression(Middleware):
    """What the methods have in common. Blocks that don't shrink are stored as they are."""

    capabilities: ClassVar[MiddlewareCapabilities] = MiddlewareCapabilities(integrity=True)
    method: ClassVar[bytes]
    """The byte that stands for it in what is stored."""
    levels: ClassVar[range]
    level: int

    def __post_init__(self) -> None:
        self._level(self.level)

    @property
    @abstractmethod
    def codec(self) -> Codec:
        """The compression itself."""

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        del message_id
        return CompressingWriter(sink, self.method, self.codec)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        return DecompressingReader(message_id, source, self.name, self.method, self.codec)

    @classmethod
    def from_url(cls, url: str) -> Self:
        return cls(**settings_of(url, {"level": cls._level}))

    @classmethod
    def for_reading(cls) -> Middleware:
        return cls()

    @classmethod
    def _level(cls, level: str | int) -> int:
        """Return the level.

        :raises InvalidOptionError: it isn't one
        """
        try:
            number = int(level)
        except ValueError:
            number = None
        if number is None or isinstance(level, bool) or number not in cls.levels:
            msg = f"level is {level!r}; those of {cls.name} are {cls.levels.start} to {cls.levels.stop - 1}"
            raise InvalidOptionError(msg)
        return number


@dataclass(frozen=True, slots=True)
class Zstd(_Compression):
    """Zstandard: the one to choose. Level 1 is faster, 19 packs tighter; negative ones are faster still."""

    name: ClassVar[str] = "zstd"
    method: ClassVar[bytes] = b"z"
    levels: ClassVar[range] = range(-7, 23)

    level: int = 3

    @property
    def codec(self) -> Codec:
        return ZstdCodec(self.level)


@dataclass(frozen=True, slots=True)
class _Deflate(_Compression):
    """Deflate, in one wrapping or another."""

    levels: ClassVar[range] = range(10)
    wbits: ClassVar[int]
    """The wrapping, as `zlib` is told of it."""

    level: int = 6

    @property
    def codec(self) -> Codec:
        return DeflateCodec(self.level, self.wbits)


@dataclass(frozen=True, slots=True)
class Gzip(_Deflate):
    """Deflate in gzip's wrapping; needs the standard library alone."""

    name: ClassVar[str] = "gzip"
    method: ClassVar[bytes] = b"g"
    wbits: ClassVar[int] = zlib.MAX_WBITS | 16


@dataclass(frozen=True, slots=True)
class Zlib(_Deflate):
    """Deflate in zlib's wrapping; needs the standard library alone."""

    name: ClassVar[str] = "zlib"
    method: ClassVar[bytes] = b"d"
    wbits: ClassVar[int] = zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Lz4(_Compression):
    """LZ4: packs less than any other, and costs next to nothing. Needs the extra `retryspool-compression[lz4]`.

    :raises PluginLoadError: its package isn't installed
    """

    name: ClassVar[str] = "lz4"
    method: ClassVar[bytes] = b"4"
    levels: ClassVar[range] = range(13)

    level: int = 0

    def __post_init__(self) -> None:
        self._level(self.level)
        lz4_block()

    @property
    def codec(self) -> Codec:
        return Lz4Codec(self.level)
