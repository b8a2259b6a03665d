"""How a store is removed: all keys that begin with its own, whether any index knows of them or not."""

from __future__ import annotations

from retryspool_redis_meta.link import Link
from retryspool_redis_meta.scripts import REMOVE

__all__ = ["remove_all"]

_AT_ONCE = 500
"""How many keys one step of the server looks at, or removes: less than a millisecond."""


def remove_all(link: Link, base: str) -> None:
    """Remove all keys of a store, its format last: what is half removed is still a store.

    It takes a look at each key of the database, in small steps.

    :param base: what its keys begin with, in braces, so that no other's begin with it; it holds nothing that stands for
        other characters in a pattern
    """
    last = f"{base}:format".encode()
    while _removed_some(link, base, last):  # again, since a cursor means nothing to a server that took over meanwhile
        pass
    link.write(REMOVE, last)  # which a node of a cluster that isn't theirs refuses, though it has let itself be scanned


def _removed_some(link: Link, base: str, last: bytes) -> bool:
    """Go through the database once, and remove all but the last; tell whether there was something."""
    found, cursor = False, b"0"
    while True:
        cursor, keys = link.ask("SCAN", cursor, "MATCH", f"{base}:*", "COUNT", _AT_ONCE)
        others = [key for key in keys if key != last]
        for start in range(0, len(others), _AT_ONCE):  # a step may find more than it looks at
            link.write(REMOVE, *others[start : start + _AT_ONCE], durable=False)
            found = True
        if cursor == b"0":
            return found
