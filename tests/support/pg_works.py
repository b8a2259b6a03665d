"""What processes do to payloads in PostgreSQL: functions for `processes.Process`."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from processes import say

from retryspool.conformance.racing import race
from retryspool.errors import StorageError
from retryspool_pg_data import PgDataFactory


def open_twice(conninfo: str, table: str) -> list[str]:
    """Open it by two threads at once; return what went wrong for each."""

    def open_once(_: int) -> str:
        PgDataFactory(conninfo, table=table).create().close()
        return ""

    return [str(result) if isinstance(result, StorageError) else result for result in race(2, open_once)]


def write_for_ever(conninfo: str, table: str, message_id: str) -> None:
    """Write chunk after chunk, and say so, until killed."""

    def chunks() -> Iterator[bytes]:
        while True:
            yield bytes(64 * 1024)
            say("written")

    with PgDataFactory(conninfo, table=table, chunk_bytes=64 * 1024).create() as backend:
        backend.store_data(message_id, chunks())


def read_for_ever(conninfo: str, table: str, message_id: str) -> None:
    """Begin to read a payload, and hold it until killed."""
    with PgDataFactory(conninfo, table=table).create() as backend, backend.get_data_reader(message_id) as reader:
        say(len(reader.read(1)))
        while True:
            reader.read(0)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_large(conninfo: str, table: str, size: int) -> int:
    """Write a payload in pieces; return by how much the most memory ever used has grown, in bytes."""
    with PgDataFactory(conninfo, table=table).create() as backend:
        backend.store_data("warm", bytes(64 * 1024))
        backend.delete_data("warm")
        piece = bytes(64 * 1024)
        before = _peak()
        backend.store_data("a", (piece for _ in range(size // len(piece))))
        return _peak() - before


def store_large_bytes(conninfo: str, table: str, size: int) -> int:
    """Store a payload that is in memory; return likewise."""
    content = bytearray(b"x") * size
    with PgDataFactory(conninfo, table=table).create() as backend:
        backend.store_data("warm", bytes(64 * 1024))
        backend.delete_data("warm")
        before = _peak()
        backend.store_data("a", memoryview(content))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return _peak() - before


def read_large(conninfo: str, table: str, size: int) -> int:
    """Read a payload in pieces of 256 KiB; return likewise."""
    with PgDataFactory(conninfo, table=table).create() as backend:
        list(backend.iter_data())
        before = _peak()
        with backend.get_data_reader("a") as reader:
            found = 0
            while piece := reader.read(256 * 1024):
                found += len(piece)
        if found != size:
            raise RuntimeError(f"{found} bytes of {size} were read")
        return _peak() - before
