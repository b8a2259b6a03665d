"""How fast records are stored, moved and claimed in Redis, against bare calls of redis-py, in turns in the same run.

    python tests/benchmarks/bench_redis_meta.py --dir /var/tmp [--json]

There are two new servers, their data in the folder: one that syncs every write, as messages want it, and one that syncs
nothing, where no disk hides what the client and the scripts cost. `REDIS_TEST_URL` names one in place of both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from harness import UNSYNCED_REDIS, Row, Work, faster, in_turns, run, slower
from redis import Redis

from retryspool.ids import new_message_id
from retryspool.meta import MetaBackend, Move, Store
from retryspool.model import MessageMetadata, State, utc_now
from retryspool_cli.servers import RedisServer
from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.backend import RedisMetaBackend
from retryspool_redis_meta.codec import encode

COUNT = 200
"""How many calls there are in a round."""
BATCH = 100
FEW, MANY = 100, 100_000
LEASE = timedelta(minutes=5)
HEADERS = {"to": "https://example.com/hook", "content-type": "application/json", "request-id": "5" * 32}

BARE_STORE = "redis.call('HSET', KEYS[1], 'head', ARGV[1], 'body', ARGV[2]) return ARGV[1]"
BARE_GET = "return redis.call('HMGET', KEYS[1], 'head', 'body')"
BARE_MOVE = "redis.call('HSET', KEYS[1], 'head', ARGV[1]) return redis.call('HMGET', KEYS[1], 'head', 'body')"


def new_record(**fields: object) -> MessageMetadata:
    """Return a record as an outbox has it."""
    return MessageMetadata(new_message_id(), headers=HEADERS, size=1024, checksum="0badf00d", **fields)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def repeat(count: int, work: Callable[[], object]) -> Work:
    """Return the work that does `work` so often."""

    def rounds() -> None:
        for _ in range(count):
            work()

    return rounds


class Bare:
    """The floor: one `EVALSHA` of redis-py, of a script that reads or writes the same bytes and does nothing else."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._prefix = f"bare:{uuid4().hex}"
        self._shas = {script: client.script_load(script) for script in (BARE_STORE, BARE_GET, BARE_MOVE)}
        self._stored: list[str] = []

    def store(self) -> None:
        """Store a record."""
        head, body = encode(new_record())
        key = f"{self._prefix}:{len(self._stored)}"
        self._client.evalsha(self._shas[BARE_STORE], 1, key, head, body)
        self._stored.append(key)

    def get(self) -> None:
        """Read a record."""
        self._client.evalsha(self._shas[BARE_GET], 1, self._stored[-1])

    def move(self) -> None:
        """Write what a move writes, and read it."""
        head, _ = encode(new_record())
        self._client.evalsha(self._shas[BARE_MOVE], 1, self._stored[-1], head)


class Ours:
    """The same by the backend."""

    def __init__(self, backend: MetaBackend) -> None:
        self._backend = backend
        self._stored: list[str] = []
        self._moved: list[str] = []

    def store(self) -> None:
        """Store a record."""
        record = new_record()
        self._backend.store_meta(record.id, record)
        self._stored.append(record.id)

    def get(self) -> None:
        """Read a record."""
        self._backend.get_meta(self._stored[-1])

    def move(self) -> None:
        """Move a record, each once."""
        message_id = self._stored.pop()
        self._backend.move_to_state(message_id, State.INCOMING, State.HOLD)

    def apply(self) -> None:
        """Store as many as a batch has, at once."""
        self._backend.apply([Store(new_record()) for _ in range(BATCH)])


def measure_calls(name: str, client: Redis, backend: MetaBackend, rounds: int) -> list[Row]:
    """Measure single calls and batches."""
    bare, ours = Bare(client), Ours(backend)
    times = in_turns(
        {
            "bare store": repeat(COUNT, bare.store),
            "store": repeat(COUNT, ours.store),
            "bare get": repeat(COUNT, bare.get),
            "get": repeat(COUNT, ours.get),
            "bare move": repeat(COUNT, bare.move),
            "move": repeat(COUNT, ours.move),
            "one by one": repeat(BATCH, ours.store),
            "apply": repeat(1, ours.apply),
        },
        rounds,
    )
    return [
        *(
            faster(f"{call}, {name}", times[f"bare {call}"], times[call], COUNT, "0.6 ×")
            for call in ("store", "get", "move")
        ),
        faster(f"`apply` of {BATCH}, {name}", times["one by one"], times["apply"], BATCH, "6 ×"),
    ]


class Claims:
    """Claims of 100 from a store with so many that aren't due; what was claimed is put back, uncounted."""

    def __init__(self, backend: RedisMetaBackend, not_due: int) -> None:
        self._backend = backend
        later = utc_now() + timedelta(days=1)
        for start in range(0, not_due, 1000):
            fields = {"state": State.DEFERRED, "next_retry": later}
            backend.apply([Store(new_record(**fields)) for _ in range(min(1000, not_due - start))])
        backend.apply([Store(new_record(state=State.DEFERRED)) for _ in range(BATCH)])

    def claim(self) -> float:
        """Claim them all; return how long that took."""
        start = utc_now()
        claimed = self._backend.claim([State.INCOMING, State.DEFERRED], limit=BATCH, lease=LEASE, owner="bench")
        took = (utc_now() - start).total_seconds()
        assert len(claimed) == BATCH
        self._back(claimed)
        return took

    def _back(self, claimed: Sequence[MessageMetadata]) -> None:
        self._backend.apply([Move(record.id, State.ACTIVE, State.DEFERRED) for record in claimed])


def measure_claims(name: str, factory: RedisMetaFactory, rounds: int) -> Row:
    """Measure claims beside few and beside many messages that aren't due."""
    with factory.in_namespace("few").create() as few, factory.in_namespace("many").create() as many:
        times = in_turns({"few": Claims(few, FEW).claim, "many": Claims(many, MANY).claim}, rounds)
    return slower(
        f"claim({BATCH}) with {MANY:,} not due, {name}; base: {FEW}", times["few"], times["many"], "within 1.2 ×"
    )


def measure_memory(client: Redis, factory: RedisMetaFactory) -> list[Row]:
    """Measure the server's memory for a message: with its record alone, and what is beyond that."""
    any_client: Any = client

    def used() -> int:
        return int(any_client.info("memory")["used_memory"])

    rows: list[Row] = []
    for count in (10_000, 70_000, MANY):
        inside = factory.in_namespace(f"memory{count}")
        before = used()
        with inside.create() as backend:
            for _ in range(0, count, 1000):
                backend.apply([Store(new_record()) for _ in range(1000)])
        both = used()  # its connections are closed: a large command leaves a large buffer
        for key in list(any_client.scan_iter(f"{{{inside.prefix}}}:*", count=1000)):
            if b"}:m:" not in key:
                any_client.delete(key)
        overhead = (both - used()) / count
        record = (used() - before) / count
        what = f"memory beyond a record, {count:,} messages; base: the record"
        rows.append(Row(what, f"{record:,.0f} B", f"{overhead:,.0f} B", overhead / 200, "under 1 × (of 200 B)"))
    return rows


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure everything."""
    rows: list[Row] = []
    for name, settings in (("synced", {}), ("unsynced", UNSYNCED_REDIS)):
        with ExitStack() as stack:
            url = os.environ.get("REDIS_TEST_URL")
            if url is None:
                url = stack.enter_context(RedisServer(folder / name, settings=settings)).url
            factory = RedisMetaFactory(url, prefix=f"bench-{uuid4().hex}")
            client = stack.enter_context(Redis.from_url(url))
            rows += measure_calls(name, client, stack.enter_context(factory.create()), rounds)
            rows.append(measure_claims(name, factory, rounds))
            if settings:
                rows += measure_memory(client, factory)
    return rows


if __name__ == "__main__":
    run(__doc__, measure)
