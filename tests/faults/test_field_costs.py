"""Bugs that recur in the queues of others, tried on this one: pools that run dry, what is left behind, costs that grow.

docs/bugs.md says which test is for which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

import pytest
from backends import new_namespace
from claim_costs import costs, of_files, of_redis
from field_works import opened
from queues import wait_until
from redis import Redis

from retryspool import Message, MessageMetadata, PermanentError, Queue, RetryableError, State
from retryspool.meta import Store, Write, WriteResult
from retryspool.plugins import registry
from retryspool_cli.servers import RedisServer

FEW, MANY = 100, 3000
HOUR = timedelta(hours=1)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# -- a pool of one -----------------------------------------------------------------------------------------------------


def test_handlers_that_read_fail_and_enqueue_share_one_connection(pg_url: str, tmp_path: Path) -> None:
    store = f"{pg_url}?max_size=1&timeout=5&namespace={new_namespace()}"
    with opened(f"fs:{tmp_path}/meta?sync=performance", store, {"concurrency": 8, "on_bounce": "delete"}) as queue:

        @queue.handler
        def deliver(message: Message, payload: BinaryIO) -> None:
            payload.read(10)  # and keep it open, while others have theirs
            if message.headers.get("answer") is None:
                queue.enqueue(b"y" * 50_000, headers={"answer": message.id})
            if message.deliveries == 1:
                raise RetryableError("once more", after=timedelta(0))
            if message.id.endswith("7"):
                raise PermanentError("gone")

        @queue.bounce_handler
        def tell(_message: Message, payload: BinaryIO) -> None:
            assert payload.read()

        for number in range(20):
            queue.enqueue(b"x" * 50_000, message_id=f"m{number}")
        queue.start()
        wait_until(lambda: not any(queue.counts().values()))

        assert 0 == queue.counters.snapshot()["lost_leases"]
        assert [] == list(queue.spool.data.iter_data())
    registry.data_factory_at(store).destroy()


# -- what work leaves behind -------------------------------------------------------------------------------------------


def work_a_round(meta: str, data: str) -> None:
    """Let messages succeed, fail, bounce, be taken from a worker by force, and be enqueued in vain."""
    with opened(meta, data, {"on_bounce": "delete", "concurrency": 4}) as queue:

        @queue.handler
        def deliver(message: Message, payload: BinaryIO) -> None:
            payload.read(1)
            if message.id.endswith("1") and message.deliveries == 1:
                raise RetryableError("later", after=timedelta(0))
            if message.id.endswith("2"):
                raise PermanentError("gone")
            if message.id.endswith("3"):
                queue.delete(message.id, force=True)

        @queue.bounce_handler
        def tell(_message: Message, _payload: BinaryIO) -> None:
            pass

        for number in range(40):
            queue.enqueue(b"x" * 1000, message_id=f"m{number}")
            queue.enqueue(b"y", message_id=f"m{number}", if_exists="skip")
        with pytest.raises(KeyError):
            _break_off(queue)
        queue.start()
        wait_until(lambda: not any(queue.counts().values()))
        queue.stop()


def _break_off(queue: Queue) -> None:
    with queue.begin_enqueue() as writer:
        writer.write(b"half")
        raise KeyError


def test_rounds_of_work_leave_no_more_files_than_the_first(tmp_path: Path) -> None:
    meta, data = f"fs:{tmp_path}/meta?sync=performance", f"fs:{tmp_path}/data?sync=performance"
    work_a_round(meta, data)
    first = files_in(tmp_path)

    for _ in range(3):
        work_a_round(meta, data)

    assert first == files_in(tmp_path)
    assert len(first) < 10


def test_rounds_of_work_leave_no_more_keys_or_connections_than_the_first(
    new_redis: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = new_redis(settings={"appendonly": "no"})
    with Redis.from_url(server.url) as client:

        def left() -> tuple[set[bytes | str], int, int]:
            wait_until(lambda: client.info("clients")["connected_clients"] == 1, "for connections to end")
            return set(client.keys()), client.info("clients")["blocked_clients"], client.pubsub_numpat()

        work_a_round(server.url, f"fs:{tmp_path}/data?sync=performance")
        first = left()
        for _ in range(3):
            work_a_round(server.url, f"fs:{tmp_path}/data?sync=performance")

        assert first == left()
        assert len(first[0]) < 10


# -- costs that grow with what isn't due -------------------------------------------------------------------------------


def test_a_claim_in_files_costs_the_same_beside_many_that_are_not_due_or_archived(tmp_path: Path) -> None:
    counted: list[int] = []
    for others in (FEW, MANY):
        with registry.open_meta(f"fs:{tmp_path}/{others}?sync=performance") as meta:
            counted.append(costs(meta, others, of_files)[0])

    assert counted[0] == counted[1] >= 10


def test_a_claim_in_redis_costs_the_same_beside_many_that_are_not_due_or_archived(
    new_redis: Callable[..., RedisServer],
) -> None:
    server = new_redis(settings={"appendonly": "no"})
    counted: list[int] = []
    with Redis.from_url(server.url) as client:
        for others in (FEW, MANY):
            with registry.open_meta(f"{server.url}?namespace=n{others}") as meta:
                counted.append(costs(meta, others, of_redis(client))[0])

    assert counted[0] * 1.2 >= counted[1] >= 10


# -- deletions by the thousand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fs", "redis"])
def test_old_messages_are_pruned_in_small_batches_while_others_are_delivered(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = f"fs:{tmp_path}/meta?sync=performance"
    if backend == "redis":
        meta = f"{request.getfixturevalue('redis_url')}?namespace={new_namespace()}"
    with opened(meta, f"fs:{tmp_path}/data?sync=performance", {"retention_s": 1, "batch_size": 50}) as queue:
        archived = [MessageMetadata(f"old{number}", State.ARCHIVED) for number in range(1000)]
        queue.spool.meta.apply([Store(record) for record in archived])
        clock = MessageMetadata("clock", State.HOLD)
        old = queue.spool.meta.store_meta("clock", clock).updated + timedelta(seconds=1)
        wait_until(lambda: queue.spool.meta.update_meta("clock", clock).updated > old)
        queue.enqueue(b"", message_id="new")
        sizes: list[int] = []
        apply = queue.spool.meta.apply

        def watched(writes: Sequence[Write]) -> list[WriteResult]:
            sizes.append(len(writes))
            if len(sizes) == 5:  # others work meanwhile
                assert ["new"] == [
                    record.id for record in queue.spool.meta.claim([State.INCOMING], limit=9, lease=HOUR, owner="w")
                ]
            return apply(writes)

        monkeypatch.setattr(queue.spool.meta, "apply", watched)

        assert 1000 == queue.prune()
        assert [50] * 20 == sizes
        assert 0 == queue.count(State.ARCHIVED)
