"""The file operations of this thread: recorded, and the N-th of them made to fail.

A disk that fails can't be had in a test, so that this is a double of one: the calls are real, up to the one that fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any
from unittest import mock

_BY_FD = ("close", "fchmod", "fstat", "fsync", "ftruncate", "posix_fadvise", "pread", "pwrite", "read", "write")
_BY_PATH = ("access", "link", "mkdir", "open", "rename", "rmdir", "scandir", "stat", "unlink")


@dataclass(frozen=True)
class Call:
    """One file operation: what was called, and on what; of two paths, the second."""

    function: str
    path: str


@dataclass
class FileCalls:
    """The operations until now. `failed` is the one that was made to fail."""

    calls: list[Call] = field(default_factory=list)
    failed: Call | None = None

    def of(self, *functions: str) -> list[Call]:
        """Return the calls of some functions only."""
        return [call for call in self.calls if call.function in functions]


@contextmanager
def file_calls(*, fail_at: int | None = None, error: int = 0, only: str | None = None) -> Iterator[FileCalls]:
    """Record the file operations inside the block.

    :param fail_at: which of them fails, from 1; the others don't
    :param error: with which `errno`; 0 for a write that is short, as the last one is on a disk that has become full
    :param only: count the calls of this function alone
    """
    seen = FileCalls()
    thread = get_ident()
    count = 0

    def watching(function: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if get_ident() != thread:
                return real(*args, **kwargs)
            this = Call(function, _path_of(function, args, kwargs))
            seen.calls.append(this)
            count += only in {None, function}
            if count != fail_at or seen.failed is not None or only not in {None, function}:
                return real(*args, **kwargs)
            if not error:
                if function not in {"pwrite", "write"}:
                    return real(*args, **kwargs)
                seen.failed = this
                return real(args[0], bytes(args[1])[: len(args[1]) // 2], *args[2:])
            seen.failed = this
            if function == "close":  # Linux closes it all the same
                real(*args, **kwargs)
            raise OSError(error, os.strerror(error))

        return call

    with ExitStack() as patched:
        for name in (*_BY_FD, *_BY_PATH):
            patched.enter_context(mock.patch.object(os, name, watching(name, getattr(os, name))))
        yield seen


_readlink = os.readlink


def _path_of(function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    if function in _BY_FD or isinstance(args[0], int):
        return _readlink(f"/proc/self/fd/{args[0]}")
    path = os.fspath(args[1] if function in {"link", "rename"} else args[0])
    folder = kwargs.get("dst_dir_fd" if function in {"link", "rename"} else "dir_fd")
    return path if folder is None else os.path.join(_readlink(f"/proc/self/fd/{folder}"), path)  # noqa: PTH118
