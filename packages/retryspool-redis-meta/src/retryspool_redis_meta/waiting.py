"""Waiting for work: the last change is a stream's one entry; a wait blocks until that is another than it has seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

from retryspool.deadline import remaining
from retryspool_redis_meta.link import Link, Reply

__all__ = ["Changes"]

_LONGEST_BLOCK_S = 300.0
"""So a connection that has silently died is noticed sooner or later."""


class Changes:
    """What one backend has seen of a store's changes.

    :param seen: the last change that there was when the backend was opened
    """

    def __init__(self, link: Link, base: str, seen: bytes) -> None:
        self._link = link
        self._key = f"{base}:changes"
        self._seen = seen

    def wait(self, timeout: float) -> bool:
        """Wait for a change after that which the last wait saw; it's there at once if it came in between."""
        seen = self._seen
        left = remaining()
        end = time.monotonic() + (timeout if left is None else min(timeout, left))
        while True:
            for_s = min(end - time.monotonic(), _LONGEST_BLOCK_S)
            is_last = for_s < _LONGEST_BLOCK_S
            change = self._change_after(seen, for_s)
            if change is not None:
                self._seen = change
                return True
            if is_last:
                return False

    def _change_after(self, seen: bytes, seconds: float) -> bytes | None:
        milliseconds = int(seconds * 1000)
        if milliseconds < 1:  # 0 would be for ever
            return _last_of(self._link.ask("XREAD", "STREAMS", self._key, seen))
        command = ("XREAD", "BLOCK", milliseconds, "STREAMS", self._key, seen)
        return _last_of(self._link.block(seconds, *command))


def _last_of(reply: Reply) -> bytes | None:
    """Return the last entry's id, from `[[key, [[id, fields]]]]`, or `{key: [[id, fields]]}` of the newer protocol."""
    if not reply:
        return None
    streams = list(cast("Mapping[bytes, Any]", reply).items()) if isinstance(reply, Mapping) else reply
    ((_key, entries),) = streams
    last: bytes = entries[-1][0]
    return last
