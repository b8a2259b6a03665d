"""How fast records are kept as files, against what the disk can do: raw calls from Python, in turns in the same run.

python tests/benchmarks/bench_fs_meta.py --dir /var/tmp [--json]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from harness import RawFiles, Row, by_threads, faster, in_turns, run, slower

from retryspool import MessageMetadata, State, new_message_id
from retryspool.meta import Delete, ListOptions, MetaBackend, Store, Update
from retryspool.model import utc_now
from retryspool.records import released
from retryspool_fs_meta import FsMetaFactory
from retryspool_fs_meta.codec import encode

BATCH = 100
LEASE = timedelta(seconds=600)
OWNER = "bench"
MANY = 100_000


def a_record(**fields: object) -> MessageMetadata:
    """Return a record that takes about 300 bytes as a compact one does; ours is spaced for people, and takes 420."""
    return MessageMetadata(new_message_id(), headers={"to": "user@example.com"}, **fields)  # type: ignore[arg-type]


def open_records(folder: Path, sync: str = "standard") -> MetaBackend:
    """Open an empty store that has its index, as a working one has."""
    backend = FsMetaFactory(folder, sync=sync).create()
    backend.list_messages(State.INCOMING)
    return backend


def store_one(backend: MetaBackend) -> MessageMetadata:
    """Store one record."""
    record = a_record()
    return backend.store_meta(record.id, record)


def claim(backend: MetaBackend, limit: int = BATCH) -> list[MessageMetadata]:
    """Claim some."""
    claimed = backend.claim([State.INCOMING, State.DEFERRED], limit=limit, lease=LEASE, owner=OWNER)
    if len(claimed) != limit:
        raise RuntimeError(f"{len(claimed)} of {limit} were claimed")
    return claimed


def one_life(backend: MetaBackend) -> None:
    """Store, claim, defer, claim, delete."""
    store_one(backend)
    (claimed,) = claim(backend, 1)
    backend.apply([a_deferral(claimed)])
    (claimed,) = claim(backend, 1)
    backend.apply([Delete(claimed.id, claimed.version)])


def a_deferral(claimed: MessageMetadata) -> Update:
    """Return the write that ends a failed attempt, due again at once."""
    return Update(replace(released(claimed), state=State.DEFERRED, attempts=1, last_error="later"), claimed.version)


def rates(folder: Path, rounds: int) -> list[Row]:
    """Measure what is a rate."""
    raw = RawFiles(folder / "raw", encode(a_record()))
    backend = FsMetaFactory(folder / "records").create()  # as a producer has them: without an index
    fast = FsMetaFactory(folder / "fast", sync="performance").create()
    claiming = open_records(folder / "claiming", "performance")
    settling = open_records(folder / "settling")
    life = open_records(folder / "life")

    def timed_claim() -> float:
        claiming.apply([Store(a_record()) for _ in range(BATCH)])
        start = time.perf_counter()
        claimed = claim(claiming)
        took = time.perf_counter() - start
        claiming.apply([Delete(record.id) for record in claimed])
        return took

    def timed_renames() -> float:
        paths = [raw.create(sync=False) for _ in range(BATCH)]
        start = time.perf_counter()
        raw.rename(paths)
        return time.perf_counter() - start

    def timed_settle() -> float:
        settling.apply([Store(a_record()) for _ in range(BATCH)])
        claimed = claim(settling)
        start = time.perf_counter()
        settling.apply([Delete(record.id, record.version) for record in claimed])
        return time.perf_counter() - start

    def timed_unlinks() -> float:
        paths = [raw.create() for _ in range(BATCH)]  # on the disk, as ours are
        start = time.perf_counter()
        raw.unlink(paths)
        return time.perf_counter() - start

    def raw_life() -> None:
        raw.create()
        raw.unlink([raw.create()])

    times = in_turns(
        {
            "raw 1": lambda: by_threads(64, 1, raw.create),
            "store 1": lambda: by_threads(64, 1, lambda: store_one(backend)),
            "raw 8": lambda: by_threads(800, 8, raw.create),
            "store 8": lambda: by_threads(800, 8, lambda: store_one(backend)),
            "raw life": lambda: by_threads(24, 1, raw_life),
            "life": lambda: by_threads(24, 1, lambda: one_life(life)),
            "raw renames": timed_renames,
            "claim": timed_claim,
            "raw unlinks": timed_unlinks,
            "settle": timed_settle,
            "raw fast": lambda: by_threads(256, 1, lambda: raw.create(sync=False)),
            "store fast": lambda: by_threads(256, 1, lambda: store_one(fast)),
        },
        rounds,
    )
    for each in (backend, fast, claiming, settling, life):
        each.close()
    return [
        faster("`store_meta`, 1 thread", times["raw 1"], times["store 1"], 64, "1 ×"),
        faster("`store_meta`, 8 threads", times["raw 8"], times["store 8"], 800, "0.9 ×"),
        faster("one life, 1 thread", times["raw life"], times["life"], 24, "0.7 ×"),
        faster("`claim(limit=100)`", times["raw renames"], times["claim"], BATCH, "0.3 ×"),
        faster("settle 100 by deletion", times["raw unlinks"], times["settle"], BATCH, "0.4 ×"),
        faster("`performance` mode, store", times["raw fast"], times["store fast"], 256, "0.5 ×"),
    ]


def lengths(folder: Path, rounds: int) -> list[Row]:
    """Measure what may not grow with the queue."""
    small = FsMetaFactory(folder / "small", sync="performance").create()
    large = FsMetaFactory(folder / "large", sync="performance").create()
    later = utc_now() + timedelta(days=1)
    for backend, count in ((small, 1000), (large, MANY)):
        waiting = count if backend is large else BATCH
        for start in range(0, waiting, 1000):
            size = min(1000, waiting - start)
            backend.apply([Store(a_record(state=State.DEFERRED, next_retry=later)) for _ in range(size)])
        for start in range(0, count, 1000):
            backend.apply([Store(a_record(state=State.HOLD)) for _ in range(min(1000, count - start))])
    large.close()

    start = time.perf_counter()
    large = FsMetaFactory(folder / "large", sync="performance").create()
    opened_s = time.perf_counter() - start
    store_one(large)
    claim(large, 1)
    first_claim_s = time.perf_counter() - start
    large.list_messages(State.HOLD)
    filled_s = time.perf_counter() - start
    small.list_messages(State.HOLD)

    def timed_claim(backend: MetaBackend) -> float:
        backend.apply([Store(a_record()) for _ in range(BATCH)])
        start = time.perf_counter()
        claimed = claim(backend)
        took = time.perf_counter() - start
        backend.apply([Delete(record.id) for record in claimed])
        return took

    def repeat(work: Callable[[], object], times: int = 200) -> float:
        start = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - start) / times

    page = ListOptions(limit=100)
    times = in_turns(
        {
            "claim small": lambda: timed_claim(small),
            "claim large": lambda: timed_claim(large),
            "list small": lambda: repeat(lambda: small.list_messages(State.HOLD, page)),
            "list large": lambda: repeat(lambda: large.list_messages(State.HOLD, page)),
            "count small": lambda: repeat(lambda: small.get_state_count(State.HOLD)),
            "count large": lambda: repeat(lambda: large.get_state_count(State.HOLD)),
            "due small": lambda: repeat(lambda: small.get_oldest_due(State.DEFERRED)),
            "due large": lambda: repeat(lambda: large.get_oldest_due(State.DEFERRED)),
        },
        rounds,
    )
    small.close()
    large.close()
    return [
        slower(
            "`claim(limit=100)`, 100,000 not due against 100",
            times["claim small"],
            times["claim large"],
            "within 1.2 ×",
        ),
        slower(
            "first page of `list_messages`, 100,000 against 1,000",
            times["list small"],
            times["list large"],
            "within 3 ×",
        ),
        slower("`get_state_count`, the same", times["count small"], times["count large"], "independent"),
        slower("`get_oldest_due`, the same", times["due small"], times["due large"], "independent"),
        Row("open a spool of 200,000", "0.5 s", f"{opened_s:.3f} s", opened_s / 0.5, "under 1 ×"),
        Row("its first claim", "0.5 s", f"{first_claim_s:.2f} s", first_claim_s / 0.5, "under 1 ×"),
        Row("its index filled", "10 s", f"{filled_s:.1f} s", filled_s / 10, "under 1 ×"),
    ]


def measure(folder: Path, rounds: int) -> list[Row]:
    """Measure all."""
    return [*rates(folder, rounds), *lengths(folder, rounds)]


if __name__ == "__main__":
    run(__doc__, measure)
