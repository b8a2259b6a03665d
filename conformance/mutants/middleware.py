"""Middleware with one bug each, planted in our own: the suite must find it, by the clause that it breaks."""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, ClassVar, TypeVar, cast

from retryspool.conformance import MiddlewareSuite
from retryspool.middleware import BlockWriter, Middleware, MiddlewareCapabilities
from retryspool_compression import Zstd, frame
from retryspool_compression.streams import CompressingWriter, DecompressingReader
from retryspool_encryption import Aes256Gcm, Key
from retryspool_encryption.streams import DecryptingReader, EncryptingWriter

__all__ = ["MUTANTS", "Mutant", "suites"]

Kind = TypeVar("Kind", bound=type[Middleware])

KEY = Key("mutant", bytes(range(32)))


@dataclass(frozen=True, slots=True)
class Mutant:
    """One of them."""

    name: str
    bug: str
    clause: str
    make: Callable[[], Middleware]
    hooks: Mapping[str, Callable[..., Any]]


MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, bug: str, clause: str, **hooks: Callable[..., Any]) -> Callable[[Kind], Kind]:
    """Note a middleware as a mutant."""

    def decorate(kind: Kind) -> Kind:
        settings: dict[str, Any] = {"keys": [KEY], "headers": True} if issubclass(kind, Aes256Gcm) else {}

        def make() -> Middleware:
            return cast("Callable[..., Middleware]", kind)(**settings)

        MUTANTS[name] = Mutant(name, bug, clause, make, hooks)
        return kind

    return decorate


def suites() -> dict[str, type[MiddlewareSuite]]:
    """Return a class of tests for each, by the name of the class."""
    return {
        f"Test_{each.name.replace('-', '_')}": type(
            f"Test_{each.name.replace('-', '_')}",
            (MiddlewareSuite,),
            {"middleware": lambda _, each=each: each.make(), **each.hooks, "__module__": "test_mutants"},
        )
        for each in MUTANTS.values()
    }


# -- compression -------------------------------------------------------------------------------------------------------


class _Mutated(Zstd):
    """Zstd whose files may be others."""

    Writer: ClassVar[type[CompressingWriter]] = CompressingWriter
    Reader: ClassVar[type[DecompressingReader]] = DecompressingReader

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        del message_id
        return self.Writer(sink, self.method, self.codec)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        return self.Reader(message_id, source, self.name, self.method, self.codec)


class _Keeping(CompressingWriter):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.kept: list[Any] = []

    def write(self, data: Any, /) -> int:
        self.kept.append(data)
        return memoryview(data).nbytes

    def close(self) -> None:
        if not self.closed:
            for data in self.kept:
                super().write(data)
        super().close()


@mutant(
    "keeps-the-callers-buffer",
    "What was written is kept by reference, and read when the block is full.",
    "MIDDLEWARE-1",
)
class KeepsBuffer(_Mutated):
    Writer = _Keeping


@mutant("drops-the-last-block", "The last block is only encoded if it is full.", "MIDDLEWARE-1")
class DropsLast(_Mutated):
    class Writer(CompressingWriter):
        def encode_block(self, block: bytes | memoryview, *, is_last: bool) -> Iterable[bytes]:
            if is_last and len(block) < frame.BLOCK_BYTES:
                return frame.end(len(block) and self.size - len(block))
            return super().encode_block(block, is_last=is_last)


@mutant(
    "reads-a-block-at-a-time",
    "`read(n)` gives what is left of a block, which looks like the end to callers.",
    "MIDDLEWARE-2",
)
class ShortReads(_Mutated):
    class Reader(DecompressingReader):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read() if size is None or size < 0 else self.read1(size)


@mutant(
    "seeks-the-source-alone", "A seek to the start moves the source, and goes on as if nothing were.", "MIDDLEWARE-2"
)
class ForgetsToRestart(_Mutated):
    class Reader(DecompressingReader):
        def restart(self) -> None:
            pass


@mutant("closes-the-sink", "Closing the writer closes what it writes to.", "MIDDLEWARE-3")
class ClosesSink(_Mutated):
    class Writer(CompressingWriter):
        def close(self) -> None:
            super().close()
            self._sink.close()


@mutant("ends-twice", "A second close writes the end once more.", "MIDDLEWARE-3")
class EndsTwice(_Mutated):
    class Writer(CompressingWriter):
        aborted = False

        def close(self) -> None:
            if self.closed and not self.aborted:
                self._sink.write(b"".join(frame.end(0)))
            super().close()

        def abort(self) -> None:
            self.aborted = not self.closed
            super().abort()


@mutant("swallows-the-sinks-error", "What fails in the sink is noted, and the payload goes on.", "MIDDLEWARE-4")
class Swallows(_Mutated):
    class Writer(CompressingWriter):
        def _flush_out(self) -> None:
            try:
                super()._flush_out()
            except Exception:  # noqa: BLE001 -- the bug
                self._out = []


@mutant(
    "ends-when-dropped",
    "A writer that nobody closed is closed when it's collected, as io's own classes are.",
    "MIDDLEWARE-5",
)
class EndsWhenDropped(_Mutated):
    class Writer(CompressingWriter):
        def __del__(self) -> None:
            self.close()


@mutant("holds-it-all", "The payload is gathered, and encoded at the end.", "MIDDLEWARE-6")
class HoldsAll(_Mutated):
    class Writer(_Keeping):
        def write(self, data: Any, /) -> int:
            return super().write(bytes(data))


@mutant("ends-where-the-bytes-end", "The end of the source is taken for the end of the payload.", "MIDDLEWARE-7")
class EndsAnywhere(_Mutated):
    class Reader(DecompressingReader):
        def next_block(self) -> bytes:
            at = self._source.tell()
            if not self._source.read(1):
                return b""
            self._source.seek(at)
            return super().next_block()


@mutant("passes-over-what-follows", "Nobody looks whether something stands behind the end.", "MIDDLEWARE-7")
class IgnoresMore(_Mutated):
    class Reader(DecompressingReader):
        def _end(self, head: frame.Head, stored: bytes) -> None:
            self._has_ended = True


@mutant("checks-no-checksum", "The checksums are stored, and never compared.", "MIDDLEWARE-7")
class ChecksNothing(_Mutated):
    class Reader(DecompressingReader):
        def next_block(self) -> bytes:
            raw = self._source.read(frame.BLOCK_HEAD_BYTES)
            head = frame.Head.parse(raw.ljust(frame.BLOCK_HEAD_BYTES))
            if head.kind != frame.Kind.RAW or not head.is_possible():
                self._source.seek(-len(raw), os.SEEK_CUR)
                return super().next_block()
            plain = self._source.read(head.stored)
            self._total += len(plain)
            return plain


@mutant("codecs-errors-escape", "What the library raises is raised.", "MIDDLEWARE-10")
class CodecErrors(Zstd):
    capabilities = MiddlewareCapabilities()

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        del message_id
        return _Whole(sink)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        del message_id
        with source:
            return io.BytesIO(zlib.decompress(source.read()))


class _Whole(BlockWriter):
    """One zlib stream, all in memory."""

    def __init__(self, sink: BinaryIO) -> None:
        super().__init__(sink, 1 << 30)

    def encode_block(self, block: bytes | memoryview, *, is_last: bool) -> Iterable[bytes]:
        del is_last
        return (zlib.compress(block, 1),)


_SHARED: list[bytes] = []


@mutant(
    "streams-share-a-state",
    "What is held back until a block is full is the middleware's, not the stream's.",
    "MIDDLEWARE-11",
)
class SharesState(_Mutated):
    class Writer(CompressingWriter):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._held = _SHARED

        def _encode_held(self, *, is_last: bool) -> None:
            super()._encode_held(is_last=is_last)
            _SHARED.clear()


@mutant("a-forked-child-is-refused", "It notes the process that made it, and refuses any other.", "MIDDLEWARE-12")
class RefusesChildren(_Mutated):
    made: ClassVar[list[int]] = []

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        if not self.made:
            self.made.append(os.getpid())
        if self.made != [os.getpid()]:
            raise RuntimeError("another process")
        return super().encode(message_id, sink)


@mutant(
    "any-setting-is-taken",
    "A setting that there isn't is passed over.",
    "MIDDLEWARE-13",
    url=lambda _: "zstd:?level=1",
)
class TakesAny(_Mutated):
    @classmethod
    def from_url(cls, url: str) -> TakesAny:
        del url
        return cls(level=1)


@mutant("its-name-has-an-underscore", "The name is none.", "MIDDLEWARE-15")
class BadName(_Mutated):
    name: ClassVar[str] = "zstd_fast"


@mutant("an-old-format-is-refused", "A new version reads its own format alone.", "MIDDLEWARE-16",
        old_formats=lambda _: {"0": ("m", b"RSC\x00z", b"")})  # fmt: skip
class ForgetsOldFormats(_Mutated):
    pass


@mutant("refuses-without-a-word", "Without settings it isn't read, and nobody is told what is needed.", "MIDDLEWARE-18")
class SaysNothing(_Mutated):
    @classmethod
    def for_reading(cls) -> Middleware:
        from retryspool.errors import NotSupportedError  # noqa: PLC0415 -- the mutant's alone

        raise NotSupportedError("no")


# -- encryption --------------------------------------------------------------------------------------------------------


class _Sealed(Aes256Gcm):
    """AES-256-GCM whose files may be others."""

    Writer: ClassVar[type[EncryptingWriter]] = EncryptingWriter
    Reader: ClassVar[type[DecryptingReader]] = DecryptingReader

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        return self.Writer(sink, self.name, self._ring.first, message_id, "payload")

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        def refused(what: str) -> Exception:
            from retryspool.errors import CorruptDataError  # noqa: PLC0415 -- here alone

            return CorruptDataError(message_id, what)

        return self.Reader(source, self._ring, message_id, "payload", what="it", refused=refused)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class _Renumbered(EncryptingWriter):
    def encode_block(self, block: bytes | memoryview, *, is_last: bool) -> Iterable[bytes]:
        self._number = self.chunk_number(self._number)
        return super().encode_block(block, is_last=self.last(is_last=is_last))

    def chunk_number(self, number: int) -> int:
        return number

    def last(self, *, is_last: bool) -> bool:
        return is_last


@mutant("the-last-chunk-is-like-the-others", "Nothing says which chunk is the last.", "MIDDLEWARE-7")
class NoLast(_Sealed):
    class Writer(_Renumbered):
        def last(self, *, is_last: bool) -> bool:
            return False

    class Reader(DecryptingReader):
        def _open(self, sealed: bytes, *, is_last: bool) -> bytes:
            del is_last
            return super()._open(sealed, is_last=False)


@mutant("chunks-have-no-number", "Each chunk is sealed by the same nonce.", "MIDDLEWARE-7")
class NoNumber(_Sealed):
    class Writer(_Renumbered):
        def chunk_number(self, number: int) -> int:
            return 0

    class Reader(DecryptingReader):
        def _open(self, sealed: bytes, *, is_last: bool) -> bytes:
            self._number = 0
            return super()._open(sealed, is_last=is_last)


@mutant("the-message-is-not-bound", "The id isn't among what is authenticated.", "MIDDLEWARE-8")
class NotBound(_Sealed):
    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        return super().encode("any", sink)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        return super().decode("any", source)


@mutant("the-salt-is-no-salt", "Each stream is encrypted by the same key and the same nonces.", "MIDDLEWARE-9")
class NoSalt(_Sealed):
    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        urandom, os.urandom = os.urandom, bytes
        try:
            return super().encode(message_id, sink)
        finally:
            os.urandom = urandom


@mutant("it-only-says-that-it-conceals", "What is stored is authenticated, and plain.", "MIDDLEWARE-9")
class Plain(_Mutated):
    capabilities = replace(Aes256Gcm.capabilities, binds_ids=False)


@mutant(
    "shows-its-key",
    "The key is among what `repr` shows.",
    "MIDDLEWARE-14",
    secrets=lambda _: [KEY.text.partition(":")[2]],
)
class ShowsKey(_Sealed):
    def __repr__(self) -> str:
        return f"Aes256Gcm({KEY.text})"


@mutant("sealed-headers-fit-any-message", "Headers that were sealed for one message open for another.", "MIDDLEWARE-17")
class HeadersNotBound(_Sealed):
    def seal_headers(self, message_id: str, headers: Mapping[str, str]) -> str:
        return super().seal_headers("any", headers)

    def open_headers(self, message_id: str, sealed: str) -> Mapping[str, str]:
        return super().open_headers("any", sealed)
