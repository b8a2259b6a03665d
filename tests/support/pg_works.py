"""What processes do to payloads in PostgreSQL: functions for `processes.Process`."""

from __future__ import annotations

from collections.abc import Iterator

from processes import say
from racing import race

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
