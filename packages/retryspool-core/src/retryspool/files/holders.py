"""Who holds a lock of a file, as far as the system tells: for errors that say what is to be done.

Open file description locks belong to no process, so `F_OFD_GETLK` and `/proc/locks` name none. But what a process has
open shows in its `/proc/<pid>/fdinfo/`, each descriptor with the locks that are held through it. That is the kernel's
own word, but only of processes that may be looked into: this user's, or all for root, on this machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Holder", "advice", "holders_of"]

_LOCK = re.compile(r"^lock:\t\d+: OFDLCK\s+ADVISORY\s+WRITE \S+ \S+:(\d+) (\d+) (\d+|EOF)$", re.MULTILINE)
_STOPPED = frozenset("Tt")
_WAITING_FOR_DISK = "D"
_MOST_S = 0.5
"""How long is looked for at most: a machine may have a million descriptors open."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that held a lock when it was looked at."""

    pid: int
    name: str
    """Its command's, empty if that can't be told."""
    state: str
    """As in proc_pid_stat(5), such as `T` for one that is stopped; empty if that can't be told."""
    first: int
    """The first byte that it has locked."""

    @property
    def is_stopped(self) -> bool:
        """Whether it does nothing until it's told to go on."""
        return self.state in _STOPPED

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})" if self.name else f"process {self.pid}"


def holders_of(path: str, *, first: int = 0, last: int | None = None) -> Iterator[Holder]:
    """Yield who holds write locks on bytes of a file, each process once, lowest byte first among its own.

    :param first: the first byte that matters
    :param last: the last one; None for the end of the file
    """
    until = time.monotonic() + _MOST_S
    name = os.path.basename(path)
    try:
        inode = os.stat(path).st_ino
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    except OSError:
        return
    for pid in pids:
        if time.monotonic() > until:
            return
        locked = [byte for byte in _locked(pid, name, inode) if first <= byte and (last is None or byte <= last)]
        if locked:
            yield Holder(pid, *_command(pid), min(locked))


def _locked(pid: int, name: str, inode: int) -> Iterator[int]:
    """Yield the first byte of each lock that a process holds on a file of this name and inode.

    By name, as its path may be another in a container; it isn't opened, or asked for its status, as a disk that
    hangs would make this hang too.
    """
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.path.basename(os.readlink(f"/proc/{pid}/fd/{descriptor}")) == name:
                    for found in _LOCK.finditer(Path(f"/proc/{pid}/fdinfo/{descriptor}").read_text(encoding="ascii")):
                        if int(found[1]) == inode:
                            yield int(found[2])


def _command(pid: int) -> tuple[str, str]:
    """Return the name of a process and its state."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", ""
    name, _, rest = text.partition("(")[2].rpartition(")")
    return name, rest.strip()[:1]


def advice(holder: Holder | None) -> str:
    """Return who holds a lock, and what can be done, as the end of an error's text."""
    if holder is None:
        return (
            "who holds it can't be told from here: look for a process that is stopped or hangs, and has the folder open"
        )
    if holder.pid == os.getpid():
        return "another thread of this process holds it"
    if holder.is_stopped:
        return (
            f"{holder} holds it and is stopped: "
            f"let it go on (kill -CONT {holder.pid}), or end it (kill -KILL {holder.pid})"
        )
    if holder.state == _WAITING_FOR_DISK:
        return f"{holder} holds it and waits for a disk: look at the disk, or end it (kill -KILL {holder.pid})"
    return f"{holder} holds it: see what it waits for, or end it (kill -KILL {holder.pid})"
