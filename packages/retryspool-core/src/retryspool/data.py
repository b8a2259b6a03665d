"""The interface of data backends: where the payloads of messages live."""

from __future__ import annotations

import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import BinaryIO, ClassVar, Self, cast

from retryspool.errors import DataNotFoundError, NotSupportedError, StorageError, raise_if_refused
from retryspool.ids import validate_message_id
from retryspool.model import NOT_DURABLE, Finding

__all__ = [
    "CHUNK_BYTES",
    "DataBackend",
    "DataCapabilities",
    "DataFactory",
    "DataInfo",
    "DataWriter",
    "Payload",
    "copy_payload",
]

CHUNK_BYTES = 256 * 1024
"""How much of a payload is in memory at a time where nothing else decides it."""

Payload = BinaryIO | bytes | Iterable[bytes]
"""What a payload may be handed in as: a binary file read to its end, bytes, or chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCapabilities:
    """What a data backend promises beyond the contract's core."""

    processes: bool
    """Several processes may open the same store."""
    durable: bool
    """What a call has done survives a power cut once it returns, unless the user chose a faster mode."""
    contract: str = "1.0"
    """The version of the contract (docs/contract.md) that the backend was written for."""


@dataclass(frozen=True, slots=True)
class DataInfo:
    """One stored payload."""

    message_id: str
    size: int
    """In bytes."""
    modified: datetime


class DataWriter(io.BufferedIOBase, BinaryIO):
    """A writable binary file whose content appears, whole, when `close()` returns.

    In a `with` block an exception aborts. One that is dropped without `close()` leaves nothing behind that is visible.
    """

    @abstractmethod
    def abort(self) -> None:
        """Throw away what was written. Does nothing after `close()`, nor when called again."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The bytes written so far."""

    def writable(self) -> bool:
        """It is."""
        return True

    def __del__(self) -> None:
        """Abort: what io's own classes do here is `close()`, which would make half a payload visible."""
        self.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class DataBackend(ABC):
    """A store of payloads. Instances may be shared between threads.

    Every method raises, beside what it lists: `InvalidMessageIdError` before any I/O, `BackendClosedError` after
    `close()`, `DeadlineExceededError` when the time allowed is over, `BackendError` when the store fails. When a method
    returns, its effect survives `kill -9` and a power cut; a deletion need survive the kill only. Memory doesn't grow
    with the size of a payload, and no reader ever gets a mix of two.
    """

    capabilities: ClassVar[DataCapabilities]

    @abstractmethod
    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        """Return a writer that stores the payload, or replaces it, in one step when it is closed.

        An empty payload is one too.

        :param if_absent: only if there's none yet
        :raises DataExistsError: there's one; raised here or by `close()`, with nothing changed
        """

    @abstractmethod
    def get_data_reader(self, message_id: str) -> BinaryIO:
        """Return a readable binary file of the payload, as it was when this returned.

        :raises DataNotFoundError: there's none; raised here, not at the first read
        """

    @abstractmethod
    def delete_data(self, message_id: str) -> None:
        """Delete the payload. That there's none is no error."""

    @abstractmethod
    def iter_data(self) -> Iterator[DataInfo]:
        """Yield every stored payload, in no particular order, in constant memory.

        One that stays meanwhile is yielded exactly once; one that comes or goes may be.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. May be called again; all other methods raise `BackendClosedError` from then on."""

    # -- with defaults -------------------------------------------------------------------------------------------------

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        """Store a payload, or replace it, in one step.

        :param if_absent: only if there's none yet
        :returns: its size in bytes
        :raises DataExistsError: there's one; nothing was changed
        """
        with self.get_data_writer(message_id, if_absent=if_absent) as writer:
            copy_payload(data, writer)
        return writer.size

    def store_many(self, items: Iterable[tuple[str, Payload]], *, if_absent: bool = False) -> list[int | StorageError]:
        """Store several payloads, faster than one by one.

        :returns: one result each, in order: the size, or the error, which is returned, not raised
        """
        items = list(items)
        for message_id, _ in items:
            validate_message_id(message_id)
        results: list[int | StorageError] = []
        for message_id, data in items:
            try:
                results.append(self.store_data(message_id, data, if_absent=if_absent))
            except StorageError as error:
                if not results:
                    raise_if_refused(error)
                results.append(error)
        return results

    def fetch_many(self, message_ids: Sequence[str], *, max_bytes: int) -> Mapping[str, bytes]:
        """Fetch the small ones among several payloads.

        :param max_bytes: what counts as small, for each payload
        :returns: the payloads of up to `max_bytes`; larger ones, and those that aren't there, are left out
        """
        found: dict[str, bytes] = {}
        for message_id in message_ids:
            try:
                with self.get_data_reader(message_id) as reader:
                    content = reader.read(max_bytes + 1)
            except DataNotFoundError:
                continue
            if len(content) <= max_bytes:
                found[message_id] = content
        return found

    def delete_many(self, message_ids: Sequence[str]) -> list[StorageError | None]:
        """Delete several payloads, faster than one by one.

        :returns: one result each, in order: None, or the error, which is returned, not raised
        """
        for message_id in message_ids:
            validate_message_id(message_id)
        results: list[StorageError | None] = []
        for message_id in message_ids:
            try:
                self.delete_data(message_id)
                results.append(None)
            except StorageError as error:
                if not results:
                    raise_if_refused(error)
                results.append(error)
        return results

    def check(self) -> Iterator[Finding]:
        """Yield what endangers payloads: settings of the store, and damaged contents."""
        if not self.capabilities.durable:
            yield NOT_DURABLE

    def sweep(self, before: datetime, *, dry_run: bool = False) -> Iterator[DataInfo]:  # noqa: ARG002 -- for overriders
        """Remove what writers left behind that never closed, and yield it: parts that no reader ever sees.

        :param before: only what was last written before this time; what is younger may have a living writer
        :param dry_run: only yield it
        """
        yield from ()

    def versions(self) -> Mapping[str, str]:
        """Return the versions of what is at work, for reports: of `"backend"`, `"driver"`, `"server"`, those there are.

        Each is a name and a version, such as `"PostgreSQL 17.2"`.
        """
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class DataFactory(ABC):
    """The settings of a data backend, and its maker. Subclasses are frozen dataclasses."""

    name: ClassVar[str]
    """What users look it up by, and the scheme of its URLs."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """Further schemes of its URLs, in lower case, such as one for encrypted connections."""

    @abstractmethod
    def create(self) -> DataBackend:
        """Open the store, and make it if it isn't there.

        :raises BackendError: it can't be opened
        """

    @classmethod
    @abstractmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from a URL.

        :raises InvalidUrlError: it doesn't parse, or has a setting that there isn't
        """

    def in_namespace(self, namespace: str) -> Self:
        """Return the factory of another store, at the same place and by the same settings, that shares nothing with it.

        Namespaces keep tenants, or the tests of a conformance run, apart: each is a store of its own, empty at first.

        :param namespace: 1 to 32 of `a-z 0-9 _`, the first no `_`; see `validate_namespace`
        :raises InvalidOptionError: it isn't
        :raises NotSupportedError: the backend knows no namespaces
        """
        msg = f"{type(self).__name__} knows no namespaces: it can't make {namespace!r} beside its store"
        raise NotSupportedError(msg)

    def destroy(self) -> None:
        """Remove the store and all that it holds, for good: for tenants that are gone, and for tests.

        Nobody may have it open. A store that isn't there is no error. The default deletes all payloads, and leaves what
        else there may be; override it where there's more: a folder, a table, keys.
        """
        with self.create() as backend:
            for info in backend.iter_data():
                backend.delete_data(info.message_id)
            for _ in backend.sweep(datetime.max.replace(tzinfo=UTC)):
                pass


def copy_payload(data: Payload, sink: BinaryIO) -> None:
    """Write a payload into a file, a chunk at a time."""
    if isinstance(data, str):  # pyright: ignore[reportUnnecessaryIsInstance] -- else "" would be an empty payload
        raise TypeError("a payload is bytes, a binary file or chunks of bytes, not a str; encode it")
    if isinstance(data, (bytes, bytearray, memoryview)):
        sink.write(data)
    elif hasattr(data, "read"):
        shutil.copyfileobj(cast("BinaryIO", data), sink, CHUNK_BYTES)
    else:
        sink.writelines(data)
