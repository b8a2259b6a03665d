"""How fast payloads are stored in PostgreSQL, against bare psycopg doing the same on the same server, in turns.

    python tests/benchmarks/bench_pg_data.py --dir /var/tmp [--json]

The server, a new one, has its data in the folder, and keeps the memory that it has freed: else some of its processes
give 2 MiB back to the system after each chunk and take them again for the next, and others don't, which is a matter of
luck and makes a third of the time. `POSTGRES_TEST_DSN` names another server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import psycopg
from harness import Row, faster, in_turns, run

from retryspool.ids import new_message_id
from retryspool_cli.servers import PostgresServer
from retryspool_pg_data import PgDataFactory
from retryspool_pg_data.backend import PgDataBackend

MIB = 1024 * 1024
SMALL = 100
"""How many payloads of 1 KiB there are in a round."""
LARGE = 64 * MIB
PARTS = 11
KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(256 * MIB), "MALLOC_MMAP_THRESHOLD_": str(32 * MIB)}
"""What tells the allocator of the GNU C library to keep it: see mallopt(3)."""


class Bare:
    """The floor: a table as ours, one connection in autocommit mode, and the statements that it takes at least."""

    def __init__(self, conninfo: str) -> None:
        self.connection = psycopg.connect(conninfo, autocommit=True)

    def create(self) -> None:
        """Make the tables."""
        self.connection.execute(
            'CREATE TABLE bare (message_id VARCHAR(255) COLLATE "C" PRIMARY KEY, data BYTEA NOT NULL, '
            "size BIGINT NOT NULL, created TIMESTAMPTZ NOT NULL DEFAULT now(), "
            "updated TIMESTAMPTZ NOT NULL DEFAULT now())"
        )
        self.connection.execute("CREATE INDEX ON bare (created)")
        self.connection.execute("CREATE INDEX ON bare (updated)")
        self.connection.execute(
            "CREATE TABLE bare_chunks (payload UUID, number INT, data BYTEA NOT NULL, PRIMARY KEY (payload, number))"
        )

    def store(self, message_id: str, data: bytes) -> None:
        self.connection.execute(
            "INSERT INTO bare (message_id, data, size) VALUES (%s, %b, %s) ON CONFLICT (message_id) DO UPDATE "
            "SET data = EXCLUDED.data, size = EXCLUDED.size, updated = now()",
            (message_id, data, len(data)),
        )

    def read(self, message_id: str) -> bytes:
        query = "SELECT data FROM bare WHERE message_id = %s"
        ((data,),) = self.connection.execute(query, (message_id,), binary=True).fetchall()
        return data

    def store_chunks(self, chunks: Iterator[bytes]) -> str:
        payload = str(uuid4())
        for number, chunk in enumerate(chunks):
            self.connection.execute("INSERT INTO bare_chunks VALUES (%s, %s, %b)", (payload, number, chunk))
        return payload

    def read_chunks(self, payload: str) -> int:
        size = number = 0
        query = "SELECT data FROM bare_chunks WHERE payload = %s AND number = %s"
        while rows := self.connection.execute(query, (payload, number), binary=True).fetchall():
            size += len(rows[0][0])
            number += 1
        return size


def repeat(count: int, work: Callable[[], object]) -> Callable[[], None]:
    """Return the work that does `work` so often."""

    def rounds() -> None:
        for _ in range(count):
            work()

    return rounds


def timed(work: Callable[[], object], clear: Callable[[], object]) -> Callable[[], float]:
    """Return the work that measures `work` and not `clear`."""

    def measured() -> float:
        start = time.perf_counter()
        work()
        took = time.perf_counter() - start
        clear()
        return took

    return measured


def measure_small(bare: Bare, backend: PgDataBackend, rounds: int) -> list[Row]:
    """Measure payloads of 1 KiB, one by one, and a hundred at a time."""
    content = os.urandom(1024)
    bare.store("read", content)
    backend.store_data("read", content)

    def read() -> None:
        with backend.get_data_reader("read") as reader:
            assert len(reader.read()) == len(content)

    times = in_turns(
        {
            "bare store": repeat(SMALL, lambda: bare.store(new_message_id(), content)),
            "store": repeat(SMALL, lambda: backend.store_data(new_message_id(), content)),
            "many": lambda: [None, backend.store_many([(new_message_id(), content) for _ in range(SMALL)])][0],
            "bare read": repeat(SMALL, lambda: bare.read("read")),
            "read": repeat(SMALL, read),
        },
        rounds * 3,
    )
    return [
        faster("pg store 1 KiB", times["bare store"], times["store"], SMALL, "0.8 ×"),
        faster("pg read 1 KiB", times["bare read"], times["read"], SMALL, "0.8 ×"),
        faster(f"pg `store_many` of {SMALL} of 1 KiB, against one by one", times["store"], times["many"], SMALL, "–"),
    ]


def measure_large(bare: Bare, backend: PgDataBackend, rounds: int) -> list[Row]:
    """Measure payloads of 64 MiB, in chunks of 1 MiB."""
    chunk = os.urandom(MIB)

    def chunks() -> Iterator[bytes]:
        return (chunk for _ in range(LARGE // MIB))

    payload = bare.store_chunks(chunks())
    backend.store_data("large", chunks())

    def read() -> None:
        with backend.get_data_reader("large") as reader:
            size = 0
            while data := reader.read(MIB):
                size += len(data)
            assert size == LARGE

    def clear_bare() -> None:
        bare.connection.execute("DELETE FROM bare_chunks WHERE payload <> %s", (payload,))
        settle()

    def clear() -> None:
        backend.delete_data("new")
        settle()

    def settle() -> None:
        bare.connection.execute("CHECKPOINT")  # else whoever comes next pays for what was deleted

    times = in_turns(
        {
            "bare store": timed(lambda: bare.store_chunks(chunks()), clear_bare),
            "store": timed(lambda: backend.store_data("new", chunks()), clear),
            "bare read": repeat(1, lambda: bare.read_chunks(payload)),
            "read": repeat(1, read),
        },
        rounds,
    )
    return [
        faster("pg store 64 MiB (MiB/s)", times["bare store"], times["store"], LARGE // MIB, "0.8 ×"),
        faster("pg read 64 MiB (MiB/s)", times["bare read"], times["read"], LARGE // MIB, "0.8 ×"),
    ]


def median_of(parts: Sequence[list[Row]]) -> list[Row]:
    """Return of each row the one whose ratio is in the middle."""
    return [sorted(rows, key=lambda row: row.ratio)[len(rows) // 2] for rows in zip(*parts, strict=True)]


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all, on a server of its own.

    In parts, each with new connections, since what serves one differs from what serves the next.
    """
    folder.chmod(0o711)  # where this is root's process, the server is another user's
    os.environ.update(KEEPS_MEMORY)
    with ExitStack() as stack:
        url = os.environ.get("POSTGRES_TEST_DSN") or stack.enter_context(PostgresServer(folder / "server")).url
        factory = PgDataFactory.from_url(f"pg://{url.partition('://')[2]}").in_namespace(f"bench{uuid4().hex[:8]}")
        stack.callback(factory.destroy)
        owner = Bare(factory.conninfo)
        stack.callback(owner.connection.close)
        owner.create()
        stack.callback(owner.connection.execute, "DROP TABLE bare, bare_chunks")
        parts: list[list[Row]] = []
        for _ in range(PARTS):
            bare = Bare(factory.conninfo)
            with bare.connection, factory.create() as backend:
                of_part = rounds // PARTS + 1
                parts.append([*measure_small(bare, backend, of_part), *measure_large(bare, backend, of_part)])
        return median_of(parts)


if __name__ == "__main__":
    run(__doc__, measure)
