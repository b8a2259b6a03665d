"""Ending together: a process notices that the one that started it is gone, however that died."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

__all__ = ["when_orphaned"]


def when_orphaned(life_fd: int, call: Callable[[], object]) -> None:
    """Call something, in a thread, once nobody holds the other end of a pipe any more."""

    def wait() -> None:
        while os.read(life_fd, 1):
            pass
        call()

    if life_fd >= 0:
        threading.Thread(target=wait, name="life", daemon=True).start()
