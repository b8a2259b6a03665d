"""One large payload in many requests: a multipart upload, a few of its parts on their way at a time."""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from retryspool.deadline import remaining
from retryspool.errors import BackendError, DataExistsError, DeadlineExceededError, StorageError
from retryspool_s3_data.failures import is_conflict, is_taken, is_unknown_upload, translating
from retryspool_s3_data.single import conflict, is_ours, new_mark, pause_after_conflict, storing
from retryspool_s3_data.transport import abandoned

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import CompletedPartTypeDef

    from retryspool_s3_data.store import Store

__all__ = ["MultipartUpload", "part_bytes_of"]

_PARTS_OF_A_SIZE = 1000
_LARGEST_PART_BYTES = 5 * 1024**3
_TRIES = 6
_ABORT_WAIT_S = 5.0

_log = logging.getLogger(__name__)


def part_bytes_of(first: int, number: int) -> int:
    """Return how large a part is: twice as large after each thousand.

    S3 takes 10,000 parts at most: so they suffice for its largest objects of 5 TiB, and up to 7.8 GiB parts stay small.

    :param first: the size of the first ones
    :param number: the part's, from 1
    """
    return min(first << (number - 1) // _PARTS_OF_A_SIZE, _LARGEST_PART_BYTES)


class MultipartUpload:
    """An upload under way. Nothing is visible before `complete()`.

    Its threads know of no deadline: the time allowed bounds how long a caller waits for them, and a `write()` within
    one mustn't make its part fail after that.
    """

    def __init__(self, store: Store, message_id: str) -> None:
        """Begin.

        :raises BackendError: the server refuses
        """
        self._store = store
        self._message_id = message_id
        self._mark = new_mark()
        where, how = store.at(message_id), store.how()
        with translating(store.call(storing(message_id))):  # what can be seen doesn't change
            begun = store.client.create_multipart_upload(Metadata=self._mark, **where, **how)
        self._which: dict[str, Any] = {**where, "UploadId": begun["UploadId"]}
        self._pid = os.getpid()
        self._threads = ThreadPoolExecutor(store.settings.concurrency, "retryspool-s3-upload", self._begin_thread)
        self._abandoned = threading.Event()
        self._on_their_way: dict[Future[CompletedPartTypeDef], int] = {}
        self._done: list[CompletedPartTypeDef] = []
        self._sent = 0

    @property
    def next_part_bytes(self) -> int:
        """How large the next part has to be, unless it's the last one."""
        return part_bytes_of(self._store.settings.part_bytes, self._sent + 1)

    def send(self, part: bytes) -> None:
        """Send a part in the background, as soon as there's room for it.

        :raises StorageError: an earlier part couldn't be sent
        :raises DeadlineExceededError: there was no room in time
        """
        self._check_process()
        room = max(1, self._store.settings.concurrency - 1) * self._store.settings.part_bytes  # less what is gathered
        while self._on_their_way and sum(self._on_their_way.values()) + len(part) > room:
            self._await_one()
        self._sent += 1
        future = self._threads.submit(_send_part, self._store, self._message_id, self._which, self._sent, part)
        self._on_their_way[future] = len(part)

    def complete(self, *, if_absent: bool) -> None:
        """Wait for the parts, and make the payload visible.

        :raises DataExistsError: `if_absent`, and there's one
        :raises StorageError: a part couldn't be sent, or the server refuses
        """
        self._check_process()
        while self._on_their_way:
            self._await_one()
        parts = sorted(self._done, key=lambda part: part.get("PartNumber", 0))
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        call = self._store.call(storing(self._message_id), writes=True)
        for number in range(_TRIES):
            with translating(call):
                if self._complete(parts, condition):
                    break
            pause_after_conflict(number)
        else:
            raise conflict(self._store, self._message_id)
        self._threads.shutdown(wait=False)

    def _complete(self, parts: list[CompletedPartTypeDef], condition: dict[str, Any]) -> bool:
        """Complete it, once; return whether it's done. A reply that got lost is found out about as in `single`."""
        client = self._store.client
        try:
            client.complete_multipart_upload(MultipartUpload={"Parts": parts}, **condition, **self._which)
        except ClientError as error:
            if is_unknown_upload(error):
                return self._was_completed()
            if condition and (is_taken(error) or is_conflict(error)):
                return is_ours(self._store, self._message_id, self._mark)
            raise
        return True

    def _was_completed(self) -> bool:
        with suppress(DataExistsError):
            if is_ours(self._store, self._message_id, self._mark):
                return True
        raise BackendError(
            f"{storing(self._message_id)}: its multipart upload isn't there any more: it was aborted, by a sweep or by "
            "a rule of the bucket, or replaced since; sweep only what is older than the longest write"
        )

    def _await_one(self) -> None:
        done, _ = wait(self._on_their_way, timeout=remaining(), return_when=FIRST_COMPLETED)
        if not done:
            raise DeadlineExceededError(
                f"{storing(self._message_id)}: the deadline passed before the bucket had its parts; nothing was changed"
            )
        for future in done:
            del self._on_their_way[future]
            self._done.append(future.result())

    def abandon(self, *, wait_for_it: bool) -> None:
        """Abort the upload, once the parts on their way have ended; raises nothing.

        :param wait_for_it: for some seconds, within the deadline
        """
        if self._pid != os.getpid():  # it's the parent's
            return
        self._abandoned.set()
        under_way = [future for future in self._on_their_way if not future.cancel()]
        try:
            aborted = self._threads.submit(_abort, self._store, self._message_id, self._which, under_way)
        except RuntimeError:  # the interpreter ends
            _log_left_behind(self._message_id, self._store, None)
            return
        self._threads.shutdown(wait=False)
        if wait_for_it:
            left = remaining()
            wait([aborted], timeout=_ABORT_WAIT_S if left is None else min(left, _ABORT_WAIT_S))

    def _begin_thread(self) -> None:
        abandoned.set(self._abandoned)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise BackendError(
                f"{storing(self._message_id)}: its writer was opened by process {self._pid}, before a fork; "
                f"write it there, or open another in this process, {os.getpid()}"
            )


def _send_part(store: Store, message_id: str, which: dict[str, Any], number: int, part: bytes) -> CompletedPartTypeDef:
    with translating(store.call(storing(message_id))):
        sent = store.client.upload_part(Body=part, PartNumber=number, **which)
    completed: CompletedPartTypeDef = {"PartNumber": number, "ETag": sent["ETag"]}
    if "ChecksumCRC32" in sent:
        completed["ChecksumCRC32"] = sent["ChecksumCRC32"]
    return completed


def _abort(store: Store, message_id: str, which: dict[str, Any], under_way: list[Future[CompletedPartTypeDef]]) -> None:
    wait(under_way)  # a part that arrives after it is kept, and paid for
    abandoned.set(None)
    try:
        with translating(store.call(f"giving up {storing(message_id)}")):
            store.client.abort_multipart_upload(**which)
    except StorageError as error:
        _log_left_behind(message_id, store, error)
    finally:
        store.forget_connections()


def _log_left_behind(message_id: str, store: Store, error: StorageError | None) -> None:
    _log.warning(
        "an upload of the payload of message %r is left behind in bucket %r; a sweep removes it: %s",
        message_id,
        store.bucket,
        error or "the interpreter ends",
    )
