"""What lies in a store in Redis, read behind the backend's back, and whether it says the same everywhere."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from redis import Redis

from retryspool import records
from retryspool.model import NEVER, MessageMetadata, State
from retryspool_redis_meta.codec import decode, time_text


class Looked:
    """All that lies in a store, read behind the backend's back."""

    def __init__(self, client: Redis, base: str) -> None:
        any_client: Any = client
        keys = [key.decode() for key in any_client.scan_iter(f"{base}:*", count=1000)]
        self.keys = keys
        self.records = {
            key.removeprefix(f"{base}:m:"): any_client.hmget(key, "head", "body")
            for key in keys
            if key.startswith(f"{base}:m:")
        }
        self.counts = {int(state): int(count) for state, count in any_client.hgetall(f"{base}:counts").items()}
        self.pages = {
            state: {
                begin.decode(): [
                    each.decode() for each in any_client.zrange(f"{base}:ids:{state}:{begin.decode()}", 0, -1)
                ]
                for begin in any_client.zrange(f"{base}:ids:{state}", 0, -1)
            }
            for state in range(6)
        }
        self.page_keys = {key for key in keys if key.startswith(f"{base}:ids:")}
        self.lanes = {
            key.removeprefix(f"{base}:lane:"): [_member(each) for each in any_client.zrange(key, 0, -1)]
            for key in keys
            if key.startswith(f"{base}:lane:")
        }
        self.heads = {
            state: [each.decode() for each in any_client.zrange(f"{base}:heads:{state}", 0, -1)] for state in range(6)
        }
        self.base = base

    def check(self) -> None:
        """Compare the indexes with the records."""
        stored = {message_id: decode(message_id, *parts) for message_id, parts in self.records.items()}
        in_state = {state.value: sorted(r.id for r in stored.values() if r.state is state) for state in State}
        assert {state: len(ids) for state, ids in in_state.items() if ids} == {
            s: n for s, n in self.counts.items() if n
        }
        assert in_state == {state: [i for page in pages.values() for i in page] for state, pages in self.pages.items()}
        for pages in self.pages.values():
            begins = list(pages)
            assert all(pages.values())
            assert all(begin <= page[0] for begin, page in pages.items())
            assert all(page[-1] < after for page, after in zip(pages.values(), begins[1:], strict=False))
            assert all(len(page) <= 64 for page in pages.values())
        lanes: defaultdict[str, list[str]] = defaultdict(list)
        for record in stored.values():
            if (due := records.due_at(record)) != NEVER:
                lanes[self._lane(record)].append(f"{time_text(due)}{record.id}")
        assert {lane: sorted(members) for lane, members in lanes.items()} == self.lanes
        heads: dict[int, list[str]] = {state: [] for state in range(6)}
        for lane, members in self.lanes.items():
            state, priority, name = lane.split(":", 2)
            first = members[0]
            heads[int(state)].append(f"{len(priority):02}{priority} {first[:15]} {first[15:]} {name}")
        assert {state: sorted(entries) for state, entries in heads.items()} == self.heads

    def _lane(self, record: MessageMetadata) -> str:
        origin = "-"
        if record.state is State.ACTIVE and record.claimed_from is not None:
            origin = str(record.claimed_from.value)
        return f"{record.state.value}:{record.priority}:{origin}{record.route}"


def _member(raw: bytes) -> str:
    return f"{int.from_bytes(raw[:5]):010x}{int.from_bytes(raw[5:8]):05x}{raw[8:].decode()}"
