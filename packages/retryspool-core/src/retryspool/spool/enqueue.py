"""How a message gets into the two backends, whatever happens meanwhile.

The payload comes first, then the record. What is found under an id that a user chose (an id made just now is free):

- a record: the message is there, nothing is touched;
- a payload without a record: either another enqueue is between its two writes, and its record appears in a moment, or
  when the transaction ends that it belongs to; or one was cut off there by a crash, or rolled back, and nobody was
  promised anything: the orphan goes.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import Self

from retryspool.data import DataBackend, Payload
from retryspool.errors import (
    BackendUnavailableError,
    DataExistsError,
    DataNotFoundError,
    MessageExistsError,
    MessageNotFoundError,
    StateConflictError,
    StorageError,
)
from retryspool.meta import MetaBackend
from retryspool.model import MessageMetadata
from retryspool.records import validate_metadata
from retryspool.spool.headers import ENCODING_HEADER, SEALED_HEADER, own_headers, stored_headers, user_headers
from retryspool.spool.integrity import Fingerprint
from retryspool.spool.joining import is_pending, join
from retryspool.spool.stages import Stages
from retryspool.spool.writer import PayloadWriter

__all__ = ["EnqueueTransaction", "Enqueuer", "has_payload"]

_log = logging.getLogger(__name__)

_RECORD_FOLLOWS_S = 0.5
"""How long a payload without a record may belong to another process that is about to write its record, in seconds."""

_TRANSACTION_ENDS_S = 10.0
"""How long to wait, in seconds, for the end of a transaction that a payload may belong to."""


def has_payload(data: DataBackend, message_id: str) -> bool:
    """Tell whether a payload is stored under this id."""
    try:
        data.get_data_reader(message_id).close()
    except DataNotFoundError:
        return False
    return True


class Enqueuer:
    """The enqueuing half of a spool."""

    def __init__(self, meta: MetaBackend, data: DataBackend, stages: Stages, *, windows: int = 64) -> None:
        self.meta = meta
        self.data = data
        self.stages = stages
        # One of these is held between an enqueue's two writes, so that nobody here takes its payload for an orphan.
        self._windows = [threading.Lock() for _ in range(windows)]

    def joined(self, transaction: object) -> Enqueuer:
        """Return the one that writes records within a transaction of the caller's.

        It holds no window: who holds a database's locks for as long as a caller likes must not wait for one of ours.

        :raises NotSupportedError: the backend can't, or not with this transaction
        """
        return Enqueuer(join(self.meta, transaction), self.data, self.stages, windows=0)

    def begin(self, record: MessageMetadata, *, is_new: bool) -> EnqueueTransaction:
        """Make sure that the id is free, and open its payload."""
        validate_metadata(record)
        if not is_new:
            self.refuse_existing(record.id)
            self._remove_orphan(record.id)
        return EnqueueTransaction(self, record, is_new=is_new)

    def vouching(self, record: MessageMetadata, payload: Fingerprint) -> MessageMetadata:
        """Return the record with what it says of its payload, whatever it said of that before."""
        own = own_headers(record.headers)
        own.pop(SEALED_HEADER, None)
        own.pop(ENCODING_HEADER, None)
        if self.stages.encoding:
            own[ENCODING_HEADER] = self.stages.names
        checksum = "" if self.stages.conceals else payload.checksum  # by it a payload that was guessed is known
        headers = stored_headers(self.stages, record.id, own, record.headers)
        return replace(record, headers=headers, size=payload.size, checksum=checksum)

    def adopt(
        self, record: MessageMetadata, stored: Payload, check: Callable[[MessageMetadata], object]
    ) -> MessageMetadata:
        """Store a message whose payload and headers are encoded already.

        :param check: what reads them, and raises if that can't be done
        """
        validate_metadata(record)
        self.refuse_existing(record.id)
        self._remove_orphan(record.id)
        with self.window(record.id):
            self.data.store_data(record.id, stored, if_absent=True)
            try:
                check(record)
            except BaseException:
                self.data.delete_data(record.id)
                raise
            try:
                return self.meta.store_meta(record.id, record)
            except BaseException as error:
                self.clean_up(record.id, error)
                raise

    @staticmethod
    def shown(stored: MessageMetadata, handed_in: MessageMetadata) -> MessageMetadata:
        """Return the record as stored, with its headers as they were handed in."""
        if SEALED_HEADER not in stored.headers:
            return stored
        own = {name: value for name, value in own_headers(stored.headers).items() if name != SEALED_HEADER}
        return replace(stored, headers={**user_headers(handed_in.headers), **own})

    def window(self, message_id: str) -> AbstractContextManager[object]:
        """Return the lock that holds off those who would take this id's payload for an orphan."""
        if not self._windows:
            return nullcontext()
        return self._windows[zlib.crc32(message_id.encode()) % len(self._windows)]

    def refuse_existing(self, message_id: str) -> None:
        """Do nothing if there's no record of this id.

        :raises MessageExistsError: there's one, and it's durable: its writer may not have returned yet, so what was
            seen is asked for once more in the way that only returns when it is
        """
        try:
            state = self.meta.get_meta(message_id).state
            self.meta.move_to_state(message_id, state, state)
        except MessageNotFoundError:
            return
        except StateConflictError:  # it moves, so it's there
            pass
        raise MessageExistsError(message_id)

    def wait_for_record(self, message_id: str) -> None:
        """Give another enqueue the time to write its record, and the transaction that it's part of the time to end.

        :raises MessageExistsError: it did
        :raises BackendUnavailableError: the transaction is still open
        """
        pause = 0.01
        waited = 0.0
        while waited < _RECORD_FOLLOWS_S or is_pending(self.meta, message_id):
            if waited >= _TRANSACTION_ENDS_S:
                msg = (
                    f"message {message_id!r} may be part of a transaction that is still open; "
                    "whether it's there shows when that ends: try again then"
                )
                raise BackendUnavailableError(msg, outcome="none")
            self.refuse_existing(message_id)
            threading.Event().wait(pause)
            waited += pause
            pause = min(pause * 2, _RECORD_FOLLOWS_S)
        self.refuse_existing(message_id)

    def _remove_orphan(self, message_id: str) -> None:
        if not has_payload(self.data, message_id):
            return
        with self.window(message_id):
            self.wait_for_record(message_id)
            _log.warning("message %s: a payload without a record was left by an enqueue that was cut off", message_id)
            self.data.delete_data(message_id)

    def clean_up(self, message_id: str, error: BaseException) -> None:
        """Remove a payload whose record was refused, unless the record may be there: then it's its payload."""
        if isinstance(error, BackendUnavailableError) and error.outcome == "none":
            try:
                self.data.delete_data(message_id)
            except StorageError as second:
                _log.warning("message %s: its payload is left for reconcile() to sweep: %s", message_id, second)


class EnqueueTransaction:
    """A message on its way in. Nothing of it is visible before `commit()`; an exception in its `with` block aborts.

    The payload is written to `payload`; `record` may be replaced, its id excepted, until the commit.
    """

    def __init__(self, enqueuer: Enqueuer, record: MessageMetadata, *, is_new: bool) -> None:
        self._enqueuer = enqueuer
        self._window = nullcontext() if is_new else enqueuer.window(record.id)  # nobody else knows a new id
        self.record = record
        self.payload = PayloadWriter(
            record.id, enqueuer.data.get_data_writer(record.id, if_absent=True), enqueuer.stages.encoding
        )
        self._stored: MessageMetadata | None = None

    @property
    def message_id(self) -> str:
        """The message's id."""
        return self.record.id

    @property
    def stored(self) -> MessageMetadata:
        """The record as it was stored.

        :raises ValueError: it wasn't committed
        """
        if self._stored is None:
            msg = f"message {self.message_id!r} was not committed"
            raise ValueError(msg)
        return self._stored

    def commit(self) -> MessageMetadata:
        """Store the message: when this returns, it's safe.

        :returns: the record as stored, with the payload's size
        :raises MessageExistsError: another enqueue of the same id came first
        :raises ValueError: it was committed or aborted before
        """
        if self.payload.closed:
            msg = f"message {self.message_id!r} was committed or aborted already"
            raise ValueError(msg)
        try:
            validate_metadata(self.record)
        except BaseException:
            self.abort()
            raise
        with self._window:
            self._close_payload()
            try:
                record = self._enqueuer.vouching(self.record, self.payload.fingerprint)
                stored = self._enqueuer.meta.store_meta(record.id, record)
            except BaseException as error:
                self._enqueuer.clean_up(self.message_id, error)
                raise
        self._stored = self._enqueuer.shown(stored, self.record)
        return self._stored

    def _close_payload(self) -> None:
        try:
            self.payload.close()
        except DataExistsError:
            self._enqueuer.wait_for_record(self.message_id)
            raise

    def abort(self) -> None:
        """Throw the message away. Does nothing after `commit()`."""
        self.payload.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif not self.payload.closed:
            self.commit()
