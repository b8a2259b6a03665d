"""What one claim costs in operations, beside few and beside very many messages that aren't due, or archived.

    python tests/support/claim_costs.py --others 100 --others 100000

On files, the file operations of the whole process are counted while it claims; on Redis, the commands that the server
runs, those within scripts too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from redis import Redis

from retryspool import MessageMetadata, State
from retryspool.meta import MetaBackend, Store
from retryspool.model import utc_now
from retryspool.plugins import registry
from retryspool_cli.servers import RedisServer

HOUR = timedelta(hours=1)
TRIALS = 5
_AUDITED = ("open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.link")

_counting: list[Counter[str]] = []


def _hook(event: str, _args: object) -> None:
    if _counting and event in _AUDITED:
        _counting[-1][event] += 1


def of_files(claim: Callable[[], object]) -> Counter[str]:
    """Return the file operations while it runs, of all threads: the backend's own one might scan beside it."""
    if not getattr(sys, "_retryspool_audited", False):
        sys.addaudithook(_hook)
        sys._retryspool_audited = True  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    _counting.append(Counter())
    try:
        claim()
    finally:
        counted = _counting.pop()
    return counted


def of_redis(client: Redis) -> Callable[[Callable[[], object]], Counter[str]]:
    """Return what counts the commands that a server runs."""

    def count(claim: Callable[[], object]) -> Counter[str]:
        client.config_resetstat()
        claim()
        stats = client.info("commandstats")
        return Counter({name: each["calls"] for name, each in stats.items() if "config" not in name})

    return count


def costs(
    meta: MetaBackend, others: int, count: Callable[[Callable[[], object]], Counter[str]]
) -> tuple[int, Counter[str]]:
    """Return what the cheapest of some claims of ten due messages costs, beside so many others of each kind."""
    for state, due in ((State.DEFERRED, utc_now() + HOUR), (State.ARCHIVED, utc_now() - HOUR)):
        for start in range(0, others, 1000):
            numbers = range(start, min(start + 1000, others))
            meta.apply([Store(MessageMetadata(f"{state}{each}", state, next_retry=due)) for each in numbers])
    meta.apply([Store(MessageMetadata(f"due{each}", State.DEFERRED)) for each in range(10 * TRIALS)])
    assert others + 10 * TRIALS == meta.list_messages(State.DEFERRED).total  # by now whatever is read once has been

    def claim() -> None:
        records = meta.claim([State.INCOMING, State.DEFERRED], limit=10, lease=HOUR, owner="w")
        assert 10 == len(records)

    counted = [count(claim) for _ in range(TRIALS)]
    cheapest = min(counted, key=lambda each: sum(each.values()))
    return sum(cheapest.values()), cheapest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--others", type=int, action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RedisServer(settings={"appendonly": "no"}) as server:
        for others in options.others or [100, 100_000]:
            with registry.open_meta(f"fs:{Path(folder) / str(others)}?sync=performance") as meta:
                print(f"files beside {others}: {costs(meta, others, of_files)}")  # noqa: T201 -- the table
            with (
                registry.open_meta(f"{server.url}?namespace=n{others}") as meta,
                Redis.from_url(server.url) as client,
            ):
                print(f"Redis beside {others}: {costs(meta, others, of_redis(client))}")  # noqa: T201 -- the table


if __name__ == "__main__":
    main()
