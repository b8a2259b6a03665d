"""Many payloads at once: all written, then all synced, then all named, and each directory synced once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

from retryspool.data import Payload, copy_payload
from retryspool.errors import StorageError
from retryspool_fs_data.store import Store
from retryspool_fs_data.writer import FsDataWriter

__all__ = ["store_batch"]

T = TypeVar("T")
R = TypeVar("R")


def store_batch(store: Store, items: Sequence[tuple[str, Payload]], *, if_absent: bool) -> list[int | StorageError]:
    """Store payloads, all of them open at the same time; return the size of each, or its error.

    An error that isn't the store's, such as that of a file to be copied from, is raised; none of them is visible then.
    """
    errors: dict[int, StorageError] = {}
    with ExitStack() as unfinished:

        def write(item: tuple[str, Payload]) -> FsDataWriter:
            message_id, data = item
            store.check_writing()
            writer = FsDataWriter.open(store, message_id, if_absent=if_absent)
            unfinished.callback(writer.abort)  # does nothing to one that was published
            copy_payload(data, writer)
            writer.start_writeback()
            return writer

        writers = _each(write, dict(enumerate(items)), errors)
        _each(FsDataWriter.finish_content, writers, errors)
        finished = {index: writer for index, writer in writers.items() if index not in errors}
        shards = _each(FsDataWriter.publish, finished, errors)
    for shard in set(shards.values()):
        try:
            store.durability.sync_names(shard)
        except StorageError as error:
            errors.update((index, error) for index, its_shard in shards.items() if its_shard is shard)
    return [errors[index] if index in errors else writers[index].size for index in range(len(items))]


def _each(do: Callable[[T], R], items: dict[int, T], errors: dict[int, StorageError]) -> dict[int, R]:
    """Do something with each; what fails is left out of the result, with its error in `errors`."""
    done: dict[int, R] = {}
    for index, item in items.items():
        try:
            done[index] = do(item)
        except StorageError as error:
            errors[index] = error
    return done
