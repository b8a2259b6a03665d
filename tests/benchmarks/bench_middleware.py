"""How fast payloads go through middleware, against its libraries bare, fed the same chunks, in turns in the same run.

    python tests/benchmarks/bench_middleware.py --dir /var/tmp [--json]

One payload of 256 MiB, of lines of text, half of each random: it shrinks to less than half. What is written goes
nowhere, and what is read comes from memory, for the library as for us, so that the disk has no part in it. Counted is
the processor's time, since nothing waits. The last rows are small messages in a whole spool in memory.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from harness import Row, faster, in_turns, run

from retryspool import Outgoing, Queue, Spool
from retryspool.data import CHUNK_BYTES
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.middleware import Middleware
from retryspool_compression import Zstd
from retryspool_encryption import Aes256Gcm, new_key

MIB = 1024 * 1024
SIZE_MIB = 256
ZSTD_BLOCK = MIB
AES_CHUNK = 256 * 1024
SMALL = 1000
"""Messages of 1 KiB in a round."""


def text(size: int) -> bytes:
    """Make the payload."""
    chance = random.Random(1)
    piece = b"".join(b"the same words in each line %s\n" % chance.randbytes(24).hex().encode() for _ in range(20_000))
    return (piece * (size // len(piece) + 1))[:size]


class _Nowhere(io.RawIOBase, BinaryIO):
    """A sink that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        return len(data)


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Return the work, which tells the processor's time that it took."""

    def measured() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return measured


def pieces(payload: bytes, size: int) -> Iterator[memoryview]:
    """Cut the payload as the library bare is fed."""
    view = memoryview(payload)
    return (view[at : at + size] for at in range(0, len(payload), size))


def written(stage: Middleware, payload: bytes) -> Callable[[], None]:
    """Return the work of encoding the payload, written as `copy_payload` does."""

    def work() -> None:
        with stage.encode("m", _Nowhere()) as writer:
            for piece in pieces(payload, CHUNK_BYTES):
                writer.write(piece)

    return work


def read(stage: Middleware, stored: bytes) -> Callable[[], None]:
    """Return the work of decoding it, read as `shutil.copyfileobj` would."""

    def work() -> None:
        with stage.decode("m", io.BytesIO(stored)) as reader:
            while reader.read(CHUNK_BYTES):
                pass

    return work


def encoded(stage: Middleware, payload: bytes) -> bytes:
    """Encode it in memory."""
    sink = io.BytesIO()
    with stage.encode("m", sink) as writer:
        writer.write(payload)
    return sink.getvalue()


def measure_zstd(payload: bytes, rounds: int) -> list[Row]:
    """Measure compression."""
    stage = Zstd()
    frames = [zstandard.ZstdCompressor(level=3).compress(piece) for piece in pieces(payload, ZSTD_BLOCK)]
    stored, sink = b"".join(frames), _Nowhere()

    def compress() -> None:
        compressor = zstandard.ZstdCompressor(level=3)
        for piece in pieces(payload, ZSTD_BLOCK):
            sink.write(compressor.compress(piece))

    def decompress() -> None:
        decompressor = zstandard.ZstdDecompressor()
        source = io.BytesIO(stored)
        for frame in frames:
            decompressor.decompress(source.read(len(frame)))

    times = in_turns(
        {
            "bare in": timed(compress),
            "in": timed(written(stage, payload)),
            "bare out": timed(decompress),
            "out": timed(read(stage, encoded(stage, payload))),
        },
        rounds,
    )
    mib = len(payload) // MIB
    return [
        faster(f"zstd level 3, {mib} MiB in, MiB", times["bare in"], times["in"], mib, "0.8 ×"),
        faster(f"zstd level 3, {mib} MiB out, MiB", times["bare out"], times["out"], mib, "0.8 ×"),
    ]


def measure_aes(payload: bytes, rounds: int) -> list[Row]:
    """Measure encryption."""
    stage = Aes256Gcm(keys=[new_key()])
    bare = AESGCM(bytes(32))
    sealed = [bare.encrypt(bytes(12), piece, b"associated") for piece in pieces(payload, AES_CHUNK)]
    stored, sink = b"".join(sealed), _Nowhere()

    def encrypt() -> None:
        for number, piece in enumerate(pieces(payload, AES_CHUNK)):
            sink.write(bare.encrypt(number.to_bytes(12), piece, b"associated"))

    def decrypt() -> None:
        source = io.BytesIO(stored)
        for chunk in sealed:
            bare.decrypt(bytes(12), source.read(len(chunk)), b"associated")

    times = in_turns(
        {
            "bare in": timed(encrypt),
            "in": timed(written(stage, payload)),
            "bare out": timed(decrypt),
            "out": timed(read(stage, encoded(stage, payload))),
        },
        rounds,
    )
    mib = len(payload) // MIB
    return [
        faster(f"AES-256-GCM, {mib} MiB in, MiB", times["bare in"], times["in"], mib, "0.8 ×"),
        faster(f"AES-256-GCM, {mib} MiB out, MiB", times["bare out"], times["out"], mib, "0.8 ×"),
    ]


def measure_spool(payload: bytes, rounds: int) -> list[Row]:
    """Measure small messages by `enqueue_many` in memory, with middleware and without."""
    small = [
        Outgoing(payload=payload[at * 1024 : at * 1024 + 1024], headers={"to": "ada@example.com"})
        for at in range(SMALL)
    ]

    def enqueued(*middleware: Middleware) -> Callable[[], None]:
        def work() -> None:
            with Queue(Spool(MemoryMeta(), MemoryData(), middleware=middleware)) as queue:
                queue.enqueue_many(small)

        return work

    key = [new_key()]
    times = in_turns(
        {
            "plain": timed(enqueued()),
            "zstd": timed(enqueued(Zstd())),
            "aes": timed(enqueued(Aes256Gcm(keys=key))),
            "both": timed(enqueued(Zstd(), Aes256Gcm(keys=key))),
            "all": timed(enqueued(Zstd(), Aes256Gcm(keys=key, headers=True))),
        },
        rounds,
    )
    names = {"zstd": "zstd", "aes": "AES-256-GCM", "both": "both", "all": "both, and headers"}
    return [
        faster(f"{SMALL} × 1 KiB by `enqueue_many` in memory, {text}", times["plain"], times[name], SMALL, "–")
        for name, text in names.items()
    ]


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all."""
    del folder
    payload = text(SIZE_MIB * MIB)
    return [*measure_zstd(payload, rounds), *measure_aes(payload, rounds), *measure_spool(payload, rounds)]


if __name__ == "__main__":
    run(__doc__, measure)
