"""What processes do to one spool in the tests of others' bugs, see `processes`; and the spool, by its two URLs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from processes import say
from queues import Recorder

from retryspool import AsyncPayload, Message, Queue, State
from retryspool.queue import QueueSettings

_COMPANY_S = 1.2
"""How long a message waits for others before its process dies of it: for longer than a lease."""
_SOURCES = str(Path(__file__).parents[2] / "packages")


def opened(meta: str, data: str, settings: QueueSettings | None = None) -> Queue:
    """Open a queue whose leases are as short as users may have them."""
    chosen: QueueSettings = {"lease_s": 1, "poll_s": 1, "concurrency": 2, "grace_s": 10, **(settings or {})}
    return Queue.open(meta=meta, data=data, **chosen)


def work(meta: str, data: str, settings: QueueSettings, stay_s: float) -> dict[str, float]:
    """Work until told to stop, by a signal; say what is begun; stay in each message for a while."""
    with opened(meta, data, settings) as queue:

        @queue.handler
        def deliver(message: Message, _payload: BinaryIO) -> None:
            say(["begun", message.id])
            threading.Event().wait(stay_s)

        queue.run()
        return {str(name): count for name, count in queue.counters.snapshot().items()}


def die_of(meta: str, data: str, poison: str, settings: QueueSettings) -> list[str]:
    """Work until there's nothing left to do; die in the handler of one message, as a process out of memory does."""
    with opened(meta, data, settings) as queue:

        @queue.handler
        def deliver(message: Message, _payload: BinaryIO) -> None:
            if message.id == poison:
                os._exit(1)
            say(message.id)

        queue.run(until_idle=True)
    return ["idle"]


class Company:
    """A handler that dies of some messages, as soon as others run beside them: these stay until then."""

    def __init__(self, poison: list[str], concurrency: int) -> None:
        self._poison = set(poison)
        self._concurrency = concurrency
        self._running = set[str]()

    def handle(self, message: Message, _payload: BinaryIO) -> None:
        self._running.add(message.id)
        until = time.monotonic() + _COMPANY_S
        while self._stays(message.id, until):
            threading.Event().wait(0.005)
        self._end(message.id)

    async def handle_in_a_loop(self, message: Message, _payload: AsyncPayload) -> None:
        self._running.add(message.id)
        until = time.monotonic() + _COMPANY_S
        while self._stays(message.id, until):  # noqa: ASYNC110 -- it's for as long as the other forms
            await asyncio.sleep(0.005)
        self._end(message.id)

    def _stays(self, message_id: str, until: float) -> bool:
        if message_id in self._poison:
            return len(self._running) < self._concurrency and time.monotonic() < until
        return not self._poison.isdisjoint(self._running)

    def _end(self, message_id: str) -> None:
        if message_id in self._poison:
            os._exit(1)
        self._running.remove(message_id)
        say(message_id)


def die_in_company(meta: str, data: str, kind: str, poison: list[str], settings: QueueSettings) -> list[str]:
    """Work until there's nothing left to do; die in the handlers of some messages, and not alone if that can be."""
    with opened(meta, data, settings) as queue:
        company = Company(poison, queue.options.concurrency)
        queue.add_handler(company.handle if kind == "threads" else company.handle_in_a_loop)
        queue.run(until_idle=True)
    return ["idle"]


def hold_all_locks(meta: str, folder: str) -> None:
    """Take every lock that a process can hold of a spool in files, and keep them; and a claim."""
    queue = opened(meta, "memory:")
    claimed = queue.spool.meta.claim([State.INCOMING], limit=10, lease=timedelta(seconds=1), owner="holder")
    whole_file = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    for path in Path(folder).rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDWR)  # kept, and its lock with it
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, whole_file)
            if not path.name.startswith("live."):  # the sign of a process that lives: locked for as long as it does
                fcntl.flock(fd, fcntl.LOCK_EX)
    say([record.id for record in claimed])
    threading.Event().wait()


def claim_and_die(meta: str, at: int) -> bool:
    """Claim in a child that kills itself before its `at`-th line of ours; return whether it came to its end."""
    Queue.open(meta=meta, data="memory:").close()  # so that children have what this imports
    pid = os.fork()
    if not pid:
        queue = Queue.open(meta=meta, data="memory:")
        left = at

        def trace(frame: FrameType, event: str, _arg: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.startswith(_SOURCES):
                return None
            left -= event == "line"
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        queue.spool.meta.claim([State.INCOMING], limit=2, lease=timedelta(milliseconds=1), owner=f"dies-{at}")
        sys.settrace(None)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def steal(meta: str, data: str) -> list[str]:
    """Work on what there is to take; return what was taken. It fails."""
    with opened(meta, data) as queue:
        queue.add_handler(recorder := Recorder(then=_fail))
        queue.run(until_idle=True)
        return recorder.ids


def _fail(_message: Message) -> None:
    raise ConnectionError("no answer")
