"""Many messages at once, of which some may be locked by others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from retryspool.errors import StorageError
from retryspool.files import StripedLocks

__all__ = ["free_first"]

R = TypeVar("R")


def free_first(locks: StripedLocks, message_ids: Sequence[str], do: Callable[[int], R]) -> list[R | StorageError]:
    """Do something with each message while its lock is held, with those that are locked by others last.

    So one that can't be had keeps none of the others waiting.

    :param do: is given the number of the message among `message_ids`
    :returns: what it returned for each, in order, or the error of waiting for the lock
    """
    results: dict[int, R | StorageError] = {}
    held: list[int] = []
    for number, message_id in enumerate(message_ids):
        stripe = locks.stripe_of(message_id)
        if locks.try_acquire(stripe):
            try:
                results[number] = do(number)
            finally:
                locks.release(stripe)
        else:
            held.append(number)
    for number in held:
        try:
            with locks.holding(message_ids[number]):
                results[number] = do(number)
        except StorageError as error:
            results[number] = error
    return [results[number] for number in range(len(message_ids))]
