"""What the driver raises, as RetrySpool's errors: by class, and by the code that a reply of the server begins with."""

from __future__ import annotations

import re

from redis import exceptions as redis_errors

from retryspool.errors import BackendError, BackendUnavailableError, Outcome

__all__ = ["code_of", "failure", "refusal"]

_REFUSALS = {
    "BUSY": "a script of somebody else's is taking too long; nothing was changed",
    "CLUSTERDOWN": "the cluster has no node for this store's keys; nothing was changed",
    "LOADING": "the server is still loading its data; nothing was changed",
    "MASTERDOWN": "the server is a replica that has lost its master; nothing was changed",
    "MISCONF": "the server can't save to its disk and so refuses writes; nothing was changed: look at its log",
    "NOREPLICAS": "too few replicas are connected; nothing was changed",
    "OOM": "the server has used all the memory of its maxmemory; nothing was changed: raise it, or delete messages",
    "READONLY": "the server is a replica and takes no writes; nothing was changed: name the master, or use Sentinel",
    "TRYAGAIN": "the cluster is moving this store's keys to another node; nothing was changed",
}
"""What the server says when it can't for now, by its code."""

_BY_CLASS: tuple[tuple[type[redis_errors.RedisError], str], ...] = (
    (redis_errors.BusyLoadingError, "LOADING"),
    (redis_errors.ClusterDownError, "CLUSTERDOWN"),
    (redis_errors.MasterDownError, "MASTERDOWN"),
    (redis_errors.OutOfMemoryError, "OOM"),
    (redis_errors.ReadOnlyError, "READONLY"),
    (redis_errors.TryAgainError, "TRYAGAIN"),
)
"""Classes whose texts the driver has taken the code off."""

_IN_SCRIPT = re.compile(r": -?([A-Z]{3,}) ")


def code_of(reply: str) -> str:
    """Return the code of an error that the server replied; before Redis 7 a script's has that of its own further on."""
    first = reply.partition(" ")[0].lstrip("-")
    if first not in _REFUSALS and (inner := _IN_SCRIPT.search(reply)) is not None:
        return inner[1]
    return first


def refusal(where: str, reply: str) -> BackendError:
    """Return the error for one that a script caught, of a write that it didn't do."""
    reason = _REFUSALS.get(code_of(reply))
    if reason is not None:
        return BackendUnavailableError(f"{where}: {reason}", outcome="none")
    return BackendError(f"{where}: the server refused: {reply[:200]}")


def failure(where: str, error: Exception, outcome: Outcome) -> BackendError:
    """Return the error that stands for the driver's.

    :param outcome: what may have happened if the connection failed; a reply of the server always means nothing
    """
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return BackendUnavailableError(f"{where}: {_REFUSALS[code]}", outcome="none")
    if isinstance(error, (redis_errors.AuthenticationError, redis_errors.NoPermissionError)):
        return BackendError(f"{where}: the server refuses this user or password, or what the user may do: {error}")
    if isinstance(error, (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)):
        said = "it isn't known whether the change was made" if outcome == "unknown" else "nothing was changed"
        return BackendUnavailableError(f"{where} can't be reached, {said}: {error}", outcome=outcome)
    return refusal(where, str(error))
