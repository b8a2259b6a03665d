"""Copies of messages in another store, checked against what their records say of their payloads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from retryspool.data import CHUNK_BYTES
from retryspool.errors import BackendError, BackendUnavailableError, DataExistsError, StorageError
from retryspool.model import ZERO_TIME, MessageMetadata
from retryspool.spool import ENCODING_HEADER, Spool

__all__ = ["Copied", "Copier"]

_log = logging.getLogger(__name__)

_SMALL_BYTES = 64 * 1024
"""Payloads up to this size are copied in batches; larger ones are streamed, one after the other."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A message and its copy."""

    record: MessageMetadata
    """As stored at the source."""
    arrived: MessageMetadata
    """As stored at the target."""


Result = tuple[MessageMetadata, "Copied | StorageError"]


class Copier:
    """Copies messages from one store to another."""

    def __init__(self, source: Spool, target: Spool) -> None:
        self._source = source
        self._target = target

    def copy(
        self, batch: Sequence[MessageMetadata], becoming: Callable[[MessageMetadata], MessageMetadata]
    ) -> Iterator[Result]:
        """Copy messages; yields each with its copy, or with the error.

        A payload that is encoded as the target would encode it is copied as it lies, and then read there; any other is
        decoded and encoded again. One that isn't what its record says is not copied.

        :param becoming: makes the target's record of the source's
        """
        small: list[tuple[MessageMetadata, MessageMetadata, bytes]] = []
        for record in batch:
            try:
                adopted = self._adopt(record, becoming(record)) if self._target.encodes_as(record) else None
                if adopted is not None:
                    yield record, Copied(record, adopted)
                    continue
                copy = self._plain(becoming(self._source.opened(record)))
                if record.size > _SMALL_BYTES:
                    with self._source.open_payload(record) as payload:
                        self._target.enqueue(copy, payload)
                    yield record, self._copied(record)
                    continue
                with self._source.open_payload(record) as payload:
                    small.append((record, copy, payload.read()))
            except StorageError as error:
                yield record, error
            except OSError as error:  # of a middleware that can't decode
                yield record, BackendError(f"the payload of message {record.id!r} can't be read: {error}")
        yield from self._copy_small(small)

    def _copy_small(self, small: Sequence[tuple[MessageMetadata, MessageMetadata, bytes]]) -> Iterator[Result]:
        results = self._target.enqueue_many([(copy, payload) for _, copy, payload in small], is_new=True)
        for (record, copy, payload), result in zip(small, results, strict=True):
            try:
                if isinstance(result, DataExistsError):  # of a message that is there, or of an enqueue that was cut off
                    self._target.enqueue(copy, payload)
                elif isinstance(result, StorageError):
                    raise result
                yield record, self._copied(record)
            except StorageError as error:
                yield record, error

    def _adopt(self, record: MessageMetadata, copy: MessageMetadata) -> MessageMetadata | None:
        """Return the copy; None if what is stored can't be read there, as with another key."""
        with self._source.data.get_data_reader(record.id) as stored:
            try:
                return self._target.adopt(self._plain(copy), stored)
            except BackendUnavailableError:
                raise
            except (BackendError, OSError) as error:
                _log.debug("message %s: decoded and encoded again, for as it is it can't be read: %s", record.id, error)
                return None

    def same_payload(self, record: MessageMetadata, there: MessageMetadata) -> bool:
        """Tell whether a message's payload is that of its copy, which may be one of another message of the same id."""
        if record.size != there.size:
            return False
        if record.checksum and there.checksum:
            return record.checksum == there.checksum
        with self._source.open_payload(record) as ours, self._target.open_payload(there) as theirs:
            while (chunk := ours.read(CHUNK_BYTES)) == theirs.read(CHUNK_BYTES):
                if not chunk:
                    return True
        return False

    def renewed(self, there: MessageMetadata, wanted: MessageMetadata) -> MessageMetadata:
        """Return a copy's record with what is wanted of it; what it says of its payload stays."""

        def renewed(shown: MessageMetadata) -> MessageMetadata:
            own = {name: value for name, value in shown.headers.items() if name == ENCODING_HEADER}
            kept = {name: value for name, value in wanted.headers.items() if name != ENCODING_HEADER}
            return replace(wanted, headers={**kept, **own}, size=shown.size, checksum=shown.checksum)

        return self._target.changed(there, renewed)

    def _copied(self, record: MessageMetadata) -> Copied:
        return Copied(record, self._target.meta.get_meta(record.id))

    @staticmethod
    def _plain(copy: MessageMetadata) -> MessageMetadata:
        """Return the record as a new one is stored."""
        return replace(copy, version=0, updated=ZERO_TIME)
