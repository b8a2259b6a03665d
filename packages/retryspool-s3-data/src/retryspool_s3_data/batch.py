"""Many payloads at once, several of them under way at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from retryspool.data import Payload, copy_payload
from retryspool.errors import BackendError, DataNotFoundError, StorageError
from retryspool_s3_data.failures import translating
from retryspool_s3_data.layout import key_of
from retryspool_s3_data.reader import PayloadStream
from retryspool_s3_data.writer import S3DataWriter

if TYPE_CHECKING:
    from retryspool_s3_data.store import Store

__all__ = ["delete_batch", "fetch_batch", "store_batch"]

T = TypeVar("T")

_KEYS_A_REQUEST = 1000
"""What S3 takes at most."""


def store_batch(store: Store, items: Sequence[tuple[str, Payload]], *, if_absent: bool) -> list[int | StorageError]:
    """Store payloads; return the size of each, or its error.

    Each is read by the calling thread, one after the other, and sent by another one; those under the same id one after
    the other too.
    """
    results: list[int | StorageError] = [0] * len(items)
    under_way: dict[int, tuple[str, Future[int | StorageError]]] = {}

    def await_those(ids: set[str] | None, most: int = 0) -> None:
        for index, (its_id, future) in list(under_way.items()):
            if (ids is None and len(under_way) > most) or (ids is not None and its_id in ids):
                results[index] = future.result()
                del under_way[index]

    with ThreadPoolExecutor(store.settings.concurrency, "retryspool-s3-batch") as threads:
        for index, (message_id, data) in enumerate(items):
            await_those({message_id})
            await_those(None, most=store.settings.concurrency)
            try:
                store.check()
                writer = S3DataWriter(store, message_id, if_absent=if_absent)
                try:
                    copy_payload(data, writer)
                except BaseException:
                    writer.abort()
                    raise
            except StorageError as error:
                results[index] = error
                continue
            under_way[index] = message_id, threads.submit(copy_context().run, _finish, writer)
        await_those(None)
    return results


def _finish(writer: S3DataWriter) -> int | StorageError:
    try:
        writer.close()
    except StorageError as error:
        return error
    return writer.size


def fetch_batch(store: Store, message_ids: Sequence[str], max_bytes: int) -> dict[str, bytes]:
    """Fetch those of up to `max_bytes`; larger ones and missing ones are left out."""

    def fetch(message_id: str) -> bytes | None:
        store.check()
        try:
            stream = PayloadStream.open(store, message_id)
        except DataNotFoundError:
            return None
        with stream:
            return stream.readall() if stream.size <= max_bytes else None

    ids = list(dict.fromkeys(message_ids))
    fetched = zip(ids, _at_once(store, fetch, ids), strict=True)
    return {message_id: content for message_id, content in fetched if content is not None}


def _at_once(store: Store, do: Callable[[str], T], items: Sequence[str]) -> list[T]:
    """Do something with each, several at a time; return the results in order, or raise what the first one raises."""
    if len(items) < 2:  # noqa: PLR2004 -- nothing is to be done beside it
        return [do(item) for item in items]
    with ThreadPoolExecutor(min(store.settings.concurrency, len(items)), "retryspool-s3-batch") as threads:
        futures = [threads.submit(copy_context().run, do, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def delete_batch(store: Store, message_ids: Iterable[str]) -> list[StorageError | None]:
    """Delete payloads, a thousand by each request; return None for each, or its error."""
    results: list[StorageError | None] = []
    remaining_ids = iter(message_ids)
    while ids := list(islice(remaining_ids, _KEYS_A_REQUEST)):
        try:
            store.check()
            errors = _delete(store, ids)
        except StorageError as error:
            results += [error] * len(ids)
        else:
            results += [errors.get(message_id) for message_id in ids]
    return results


def _delete(store: Store, ids: list[str]) -> dict[str, StorageError]:
    by_key = {key_of(store.prefix, message_id): message_id for message_id in ids}
    objects: Any = [{"Key": key} for key in by_key]
    with translating(store.call(f"deleting {len(ids)} payloads", writes=True)):
        answer: Any = store.client.delete_objects(Bucket=store.bucket, Delete={"Objects": objects, "Quiet": True})
    return {
        by_key[error["Key"]]: BackendError(
            f"deleting the payload of message {by_key[error['Key']]!r}: bucket {store.bucket!r} answered "
            f"{error.get('Code', 'nothing')}: {error.get('Message', '')}"
        )
        for error in answer.get("Errors", [])
        if error.get("Key") in by_key
    }
