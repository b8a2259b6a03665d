"""What a process does that stops itself in the middle of a change, with the lock of the message held."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from processes import say

from retryspool.model import MessageMetadata, State
from retryspool.queue import Message, Queue
from retryspool_fs_meta import FsMetaFactory

STRIPES = 1024


def on_the_stripe_of(message_id: str, prefix: str) -> Iterator[str]:
    """Yield ids whose lock is the same as that of another message."""
    stripe = zlib.crc32(message_id.encode()) % STRIPES
    ids = (f"{prefix}{number}" for number in itertools.count())
    return (each for each in ids if zlib.crc32(each.encode()) % STRIPES == stripe)


def stop_before(call: str, number: int) -> None:
    """Stop this process when it comes to the N-th call of a function of `os` on a record of the folders of states."""
    real: Callable[..., Any] = getattr(os, call)
    calls = itertools.count(1)

    @functools.wraps(real)
    def stopping(path: str, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is threading.main_thread() and next(calls) == number:
            os.kill(os.getpid(), signal.SIGSTOP)
        return real(path, *args, **kwargs)

    setattr(os, call, stopping)


def move_and_stop(base: str, message_id: str, at: int) -> int:
    """Move a message from INCOMING to HOLD, and stop before one of its two renames: 1 or 2; return its version."""
    with FsMetaFactory(base).create() as backend:
        stop_before("rename", at)
        return backend.move_to_state(message_id, State.INCOMING, State.HOLD).version


def update_for_ever(base: str, message_id: str) -> None:
    """Update a message again and again, so that its lock is hardly ever free."""
    with FsMetaFactory(base, sync="performance").create() as backend:
        say("updating")
        while True:
            backend.update_meta(message_id, MessageMetadata(message_id, State.HOLD))


def work(meta: str, data: str, number: int) -> list[str]:
    """Deliver so many messages; say which, one after the other."""
    done = threading.Event()
    left = itertools.count(number - 1, -1)
    with Queue.open(meta=meta, data=data) as queue:

        @queue.handler
        def deliver(message: Message, _payload: BinaryIO) -> None:
            say(message.id)
            if not next(left):
                done.set()

        queue.start()
        done.wait()
    return ["stopped"]
