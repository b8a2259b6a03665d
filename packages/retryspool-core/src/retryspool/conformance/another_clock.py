"""Another clock: a process in which it's later, or earlier, than it is.

That process runs this file before it imports anything else, so that whatever asks Python for the time, in the backend
or in its driver, gets the wrong one. What a server or the monotonic clock says stays as it is.
"""

from __future__ import annotations

import copyreg
import datetime as dt
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta, tzinfo
from typing import Any, SupportsIndex, cast

__all__ = ["call_by_another_clock"]

_PATIENCE_S = 60


def call_by_another_clock(ahead: timedelta, function: Callable[..., object], *args: object) -> object:
    """Call a function of a module, with arguments that can be pickled, where the clock is `ahead` of ours.

    :raises Exception: what the function raised
    """
    request = pickle.dumps((sys.path, ahead)) + pickle.dumps((function, args))
    done = subprocess.run(  # noqa: S603 -- this very Python
        [sys.executable, "-P", __file__], input=request, stdout=subprocess.PIPE, check=True, timeout=_PATIENCE_S
    )
    result, error = pickle.loads(done.stdout)  # noqa: S301 -- our own child
    if error is not None:
        raise error
    return result


def _main() -> None:
    path, ahead = pickle.load(sys.stdin.buffer)  # noqa: S301 -- our own parent
    sys.path[:] = path
    _shift(ahead)
    result: object = None
    error: Exception | None = None
    try:
        function, args = pickle.load(sys.stdin.buffer)  # noqa: S301 -- our own parent
        result = function(*args)
    except Exception as raised:  # noqa: BLE001 -- the test decides what it means
        error = raised
    sys.stdout.buffer.write(pickle.dumps((result, error)))


def _shift(ahead: timedelta) -> None:
    real, real_time_ns, real_gmtime, real_localtime = dt.datetime, time.time_ns, time.gmtime, time.localtime
    ahead_ns = ahead // timedelta(microseconds=1) * 1_000

    class AnyDatetime(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)  # what C code or arithmetic made is one too

    class Shifted(dt.datetime, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return real.now(tz) + ahead

        @classmethod
        def utcnow(cls) -> Any:
            return real.now(dt.UTC).replace(tzinfo=None) + ahead

        @classmethod
        def today(cls) -> Any:
            return real.now() + ahead

    Shifted.__name__ = Shifted.__qualname__ = "datetime"
    Shifted.__module__ = "datetime"  # pickled by that name, which means the real one anywhere else
    dt.datetime = Shifted  # type: ignore[misc]
    copyreg.pickle(real, lambda time: (Shifted, cast("tuple[Any, ...]", time.__reduce__()[1])))

    def time_ns() -> int:
        return real_time_ns() + ahead_ns

    def seconds() -> float:
        return time_ns() / 1e9

    def gmtime(of: float | SupportsIndex | None = None) -> time.struct_time:
        return real_gmtime(seconds() if of is None else of)

    def localtime(of: float | SupportsIndex | None = None) -> time.struct_time:
        return real_localtime(seconds() if of is None else of)

    time.time_ns, time.time, time.gmtime, time.localtime = time_ns, seconds, gmtime, localtime


if __name__ == "__main__":
    _main()
