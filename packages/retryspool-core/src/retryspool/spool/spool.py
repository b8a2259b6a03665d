"""The spool itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote

from retryspool.data import CHUNK_BYTES, DataBackend, Payload, copy_payload
from retryspool.errors import BackendError, InvalidOptionError, StorageError
from retryspool.meta import Delete, MetaBackend, Store, Write, WriteResult
from retryspool.middleware import Middleware
from retryspool.model import Finding, MessageMetadata
from retryspool.plugins import open_data, open_meta, split_middleware
from retryspool.records import validate_metadata
from retryspool.spool.enqueue import Enqueuer, EnqueueTransaction
from retryspool.spool.headers import (
    ENCODING_HEADER,
    SEALED_HEADER,
    open_headers,
    own_headers,
    user_headers,
    with_headers,
)
from retryspool.spool.integrity import Fingerprint, fingerprinting, verified
from retryspool.spool.reconcile import DEFAULT_GRACE, Discrepancy, reconcile
from retryspool.spool.stages import Stages, opened_stages
from retryspool.spool.writer import decoding, encoding

__all__ = ["Spool"]

_log = logging.getLogger(__name__)


class Spool:
    """One metadata and one data backend as one store of messages. Safe to share between threads.

    It owns both backends: `close()` closes them. What concerns records alone is asked of `meta`.

    :param middleware: what payloads go through, each an object, a name such as `zstd`, or a URL such as
        `zstd:?level=3`; the first gets the user's bytes
    :raises InvalidOptionError: two have one name, or two seal headers
    :raises PluginError: there's no such middleware; the message says what to install
    """

    def __init__(self, meta: MetaBackend, data: DataBackend, *, middleware: Sequence[Middleware | str] = ()) -> None:
        self.meta = meta
        self.data = data
        self._stages = Stages(middleware)
        self._enqueuer = Enqueuer(meta, data, self._stages)

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        meta: str | None = None,
        data: str | None = None,
        middleware: Sequence[Middleware | str] = (),
    ) -> Self:
        """Open a spool: a folder, or two backends by URL.

        :param path: a folder, made if it isn't there; records go to `meta/` in it and payloads to `data/`
        :param meta: the metadata backend's URL, such as `redis://localhost/0`
        :param data: the data backend's URL, such as `s3://bucket/outbox`; its setting `middleware` may name some,
            separated by commas
        :param middleware: what payloads go through, each an object, a name such as `zstd`, or a URL such as
            `zstd:?level=3`; the first gets the user's bytes
        :raises InvalidOptionError: neither a folder nor two URLs were given, or middleware both here and in the URL
        :raises PluginError: there's no such backend or middleware; the message says what to install
        """
        if path is not None and (meta is not None or data is not None):
            msg = "a spool is opened by a folder or by two URLs (meta=…, data=…), not by both"
            raise InvalidOptionError(msg)
        if path is not None:
            folder = quote(str(path))
            meta, data = f"fs:{folder}/meta", f"fs:{folder}/data"
        if meta is None or data is None:
            msg = 'a spool is opened by a folder, such as "./spool", or by two URLs (meta=…, data=…)'
            raise InvalidOptionError(msg)
        data, named = split_middleware(data)
        if named and middleware:
            raise InvalidOptionError("middleware is given as an argument or in the data backend's URL, not in both")
        stages = opened_stages(named or middleware)  # complains before anything is opened
        records = open_meta(meta)
        try:
            return cls(records, open_data(data), middleware=stages)
        except BaseException:
            records.close()
            raise

    # -- in ------------------------------------------------------------------------------------------------------------

    def enqueue(
        self, record: MessageMetadata, payload: Payload, *, is_new: bool = False, transaction: object | None = None
    ) -> MessageMetadata:
        """Store a message: when this returns, it's safe.

        :param is_new: the id was made just now, so that nobody can have used it
        :param transaction: the driver's connection; the message is there, and safe, if and when the caller commits
        :returns: the record as stored, with the payload's size
        :raises MessageExistsError: there's a message of this id; it wasn't touched, and is safe
        :raises NotSupportedError: the metadata backend can't join that transaction; nothing is stored
        """
        return _enqueued(self._joining(transaction), record, payload, is_new=is_new)

    def begin(
        self, record: MessageMetadata, *, is_new: bool = False, transaction: object | None = None
    ) -> EnqueueTransaction:
        """Begin to store a message whose payload is written piece by piece.

        :param is_new: the id was made just now, so that nobody can have used it
        :param transaction: as in `enqueue`
        :raises MessageExistsError: there's a message of this id; one that comes meanwhile shows at the commit
        :raises NotSupportedError: the metadata backend can't join that transaction
        """
        return self._joining(transaction).begin(record, is_new=is_new)

    def _joining(self, transaction: object | None) -> Enqueuer:
        return self._enqueuer if transaction is None else self._enqueuer.joined(transaction)

    def enqueue_many(
        self,
        messages: Iterable[tuple[MessageMetadata, Payload]],
        *,
        is_new: bool = False,
        transaction: object | None = None,
    ) -> list[MessageMetadata | StorageError]:
        """Store several messages, faster than one by one.

        :param is_new: the ids were made just now, so that nobody can have used them
        :param transaction: as in `enqueue`
        :returns: one result each, in order; a failed one's `StorageError` is returned, not raised
        """
        batch = list(messages)
        for record, _ in batch:
            validate_metadata(record)
        enqueuer = self._joining(transaction)
        if not is_new:
            return [_try_enqueue(enqueuer, record, payload) for record, payload in batch]
        prints = [Fingerprint() for _ in batch]
        sizes = self.data.store_many(
            [
                (record.id, self._encoding(record.id, fingerprinting(payload, seen)))
                for (record, payload), seen in zip(batch, prints, strict=True)
            ],
            if_absent=True,
        )
        stores = [
            Store(enqueuer.vouching(record, seen))
            for (record, _), seen, size in zip(batch, prints, sizes, strict=True)
            if isinstance(size, int)
        ]
        outcomes = iter(_try_apply(enqueuer.meta, stores))
        results: list[MessageMetadata | StorageError] = []
        for (record, _), size in zip(batch, sizes, strict=True):
            outcome = next(outcomes) if isinstance(size, int) else size
            if isinstance(outcome, StorageError):
                enqueuer.clean_up(record.id, outcome)
            elif outcome is not None:  # only a deletion's is
                outcome = enqueuer.shown(outcome, record)
            if outcome is not None:
                results.append(outcome)
        return results

    def _encoding(self, message_id: str, payload: Payload) -> Payload:
        return encoding(message_id, payload, self._stages.encoding) if self._stages.encoding else payload

    def encodes_as(self, record: MessageMetadata) -> bool:
        """Tell whether a message is encoded, and by the middleware that this spool would encode it with."""
        encoding = record.headers.get(ENCODING_HEADER, "")
        sealed = record.headers.get(SEALED_HEADER, "").partition(":")[0]
        sealing = self._stages.sealing.name if self._stages.sealing else ""
        return (
            bool(encoding)
            and encoding == self._stages.names
            and (sealed == sealing or not (sealed or user_headers(record.headers)))
        )

    def adopt(self, record: MessageMetadata, stored: Payload) -> MessageMetadata:
        """Store a message as it is stored in another spool, encoded already, and read it back before it's there.

        :param record: as it's stored there
        :param stored: its payload, as it's stored there
        :returns: the record as stored
        :raises MessageExistsError: there's a message of this id; it wasn't touched
        :raises BackendError: payload or headers can't be decoded here, as with another key
        """

        def read(record: MessageMetadata) -> None:
            self.opened(record)
            with self.open_payload(record) as payload:
                while payload.read(CHUNK_BYTES):
                    pass

        return self._enqueuer.adopt(record, stored, read)

    # -- out -----------------------------------------------------------------------------------------------------------

    def get(self, message_id: str, *, transaction: object | None = None) -> MessageMetadata:
        """Return a message's record as it is stored: what a change is made from. Its headers may be sealed.

        :param transaction: what the transaction sees, its own messages too, as in `enqueue`
        :raises MessageNotFoundError: there's none
        """
        return self._joining(transaction).meta.get_meta(message_id)

    def opened(self, record: MessageMetadata) -> MessageMetadata:
        """Return a record with its headers as they were handed in: to act on, never to be stored.

        :raises CorruptDataError: they are sealed, and were altered
        :raises BackendError: they are sealed, and the middleware or its key is missing
        """
        return open_headers(self._stages, record)

    def shown(self, record: MessageMetadata) -> MessageMetadata:
        """Return a record with its headers as they were handed in; sealed ones that can't be read, as they are stored.

        What shows or matches headers does so with this; what it returns is never to be stored.
        """
        try:
            return open_headers(self._stages, record)
        except BackendError:
            return record

    def with_headers(self, record: MessageMetadata, headers: Mapping[str, str]) -> MessageMetadata:
        """Return a stored record with these headers in place of the user's: sealed if they were, or new ones are.

        :raises BackendError: they were sealed, and the middleware for it is missing
        """
        return with_headers(self._stages, record, headers)

    def changed(self, record: MessageMetadata, change: Callable[[MessageMetadata], MessageMetadata]) -> MessageMetadata:
        """Return a record as it is to be stored after a change, which is given it with plain headers.

        :raises BackendError: it changes headers that are sealed and can't be read
        """
        shown = self.shown(record)
        new = change(shown)
        if new.headers == shown.headers:
            return replace(new, headers=record.headers)
        self.opened(record)  # raises where the new headers would take the place of some that nobody could read
        own = {name: value for name, value in record.headers.items() if name == SEALED_HEADER}
        return self.with_headers(replace(new, headers={**own_headers(new.headers), **own}), new.headers)

    def open_payload(self, record: MessageMetadata) -> BinaryIO:
        """Return a readable binary file of a message's payload, as it was handed in.

        One that is read to its end is whole: else that read raises `CorruptDataError`.

        :raises DataNotFoundError: it's gone
        :raises BackendError: it's encoded with middleware that isn't there or lacks its key; the message says which
        :raises CorruptDataError: it isn't encoded with what its record names
        """
        return verified(record, decoding(record, self.data.get_data_reader(record.id), self._stages))

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        """Carry out a batch of writes to records, as `MetaBackend.apply` does; deleted messages' payloads go too."""
        results = self.meta.apply(writes)
        gone = [
            write.message_id
            for write, result in zip(writes, results, strict=True)
            if isinstance(write, Delete) and result is None
        ]
        if gone:
            for message_id, error in zip(gone, self.data.delete_many(gone), strict=True):
                if error is not None:
                    _log.warning("message %s: its payload is left for reconcile() to sweep: %s", message_id, error)
        return results

    def delete(self, message_id: str, *, if_version: int | None = None) -> None:
        """Delete a message: its record, then its payload.

        :raises MessageNotFoundError: there's no such message
        :raises StateConflictError: its record has another version
        """
        (result,) = self.apply([Delete(message_id, if_version)])
        if isinstance(result, StorageError):
            raise result

    # -- care ----------------------------------------------------------------------------------------------------------

    def reconcile(self, *, grace: timedelta = DEFAULT_GRACE, dry_run: bool = False) -> Iterator[Discrepancy]:
        """Find what doesn't fit together between records and payloads, and sweep orphan payloads on the way.

        :param grace: how old an orphan must be: longer than the longest enqueue
        :param dry_run: only report
        """
        return reconcile(self.meta, self.data, grace=grace, dry_run=dry_run)

    def check(self) -> Iterator[Finding]:
        """Yield what endangers messages, in both backends."""
        yield from self.meta.check()
        yield from self.data.check()

    def close(self) -> None:
        """Close both backends. May be called again."""
        try:
            self.meta.close()
        finally:
            self.data.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _enqueued(enqueuer: Enqueuer, record: MessageMetadata, payload: Payload, *, is_new: bool) -> MessageMetadata:
    with enqueuer.begin(record, is_new=is_new) as enqueueing:
        copy_payload(payload, enqueueing.payload)
    return enqueueing.stored


def _try_enqueue(enqueuer: Enqueuer, record: MessageMetadata, payload: Payload) -> MessageMetadata | StorageError:
    try:
        return _enqueued(enqueuer, record, payload, is_new=False)
    except StorageError as error:
        return error


def _try_apply(meta: MetaBackend, stores: Sequence[Store]) -> Sequence[WriteResult]:
    try:
        return meta.apply(stores)
    except StorageError as error:
        return [error] * len(stores)
