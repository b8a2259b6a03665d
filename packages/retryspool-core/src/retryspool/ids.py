"""Message ids: what one may be, and how one is made.

An id is what a user names a message by, on every backend: a file name, a key, a column. Its alphabet is what all of
them can hold; how a backend stores it is injective, so that `A` and `a`, `a.json` and `a` are different messages.
"""

from __future__ import annotations

import os
import re
import threading
import time

from retryspool.errors import InvalidMessageIdError

__all__ = ["MAX_ID_LENGTH", "new_message_id", "validate_message_id"]

MAX_ID_LENGTH = 200
_VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=@+-]{0,199}")
_is_valid = _VALID.fullmatch


def validate_message_id(message_id: str) -> str:
    """Return `message_id` if it is one.

    :raises InvalidMessageIdError: it isn't 1 to 200 characters of `A-Z a-z 0-9 . _ = @ + -`, the first a letter or
        digit
    """
    try:
        valid = _is_valid(message_id)
    except TypeError:  # it isn't a str
        valid = None
    if valid is None:
        shown = repr(message_id)
        if len(shown) > 60:  # noqa: PLR2004 -- what is shown of a hostile id is bounded, by whatever looks well
            shown = f"{shown[:60]}…"
        msg = (
            f"{shown} is not a message id: "
            f"1 to {MAX_ID_LENGTH} characters of A-Z a-z 0-9 . _ = @ + -, the first of them a letter or a digit"
        )
        raise InvalidMessageIdError(msg)
    return message_id


class _Generator:
    """UUIDv7 (RFC 9562, method 1 of its section 6.2: a counter in `rand_a`), rising within a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it at the fork, and isn't here to give it back

    def __call__(self) -> str:
        with self._lock:
            # 48 bits of milliseconds and 12 of the fraction: a clock that stands or goes back still counts on.
            now = time.time_ns()
            stamp = (now // 1_000_000) << 12 | (now % 1_000_000) * 4096 // 1_000_000
            self._last = stamp = max(stamp, self._last + 1)
        random = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF
        value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0x2 << 62 | random
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


new_message_id = _Generator()
"""Make an id that sorts by time: a UUIDv7, each greater than those that this process made before."""
