"""Mutants that keep payloads wrong."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from mutants.kinds import mutant
from mutants.races import gap, pause
from retryspool.data import DataBackend, DataInfo, DataWriter, Payload, copy_payload
from retryspool.errors import DataExistsError, DataNotFoundError, StorageError
from retryspool.ids import validate_message_id
from retryspool.memory import MemoryData
from retryspool.model import utc_now
from retryspool_fs_data import FsDataBackend

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Wraps(DataWriter):
    """A writer around another."""

    def __init__(self, inner: DataWriter) -> None:
        self.inner = inner

    @property
    def size(self) -> int:
        return self.inner.size

    def write(self, data: ReadableBuffer, /) -> int:
        return self.inner.write(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.inner.close()

    def abort(self) -> None:
        if not self.closed:
            super().close()
            self.inner.abort()


def put(data: MemoryData, message_id: str, content: bytes) -> None:
    """Store a payload, without any rule."""
    data._shared.payloads[message_id] = content, utc_now()


@mutant("DATA-1")
class PayloadIdsFoldCase(MemoryData):
    """`A` and `a` are the same payload."""

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        return super().get_data_writer(validate_message_id(message_id).lower(), if_absent=if_absent)

    def get_data_reader(self, message_id: str) -> BinaryIO:
        return super().get_data_reader(validate_message_id(message_id).lower())


@mutant("DATA-2")
class PayloadIdsAreUnchecked(MemoryData):
    """Deleting `../x` isn't refused."""

    def delete_data(self, message_id: str) -> None:
        with self._payloads() as payloads:
            payloads.pop(message_id, None)


@mutant("DATA-3")
class LinesAreNormalised(MemoryData):
    """A payload goes through text, and its line ends with it."""

    def get_data_reader(self, message_id: str) -> BinaryIO:
        content = super().get_data_reader(message_id).read()
        return io.BufferedReader(io.BytesIO(content.replace(b"\r\n", b"\n")))


@mutant("DATA-4")
class SizeIsThatOfTheEncoded(MemoryData):
    """`store_data` returns what the payload takes in base 64."""

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        return (super().store_data(message_id, data, if_absent=if_absent) + 2) // 3 * 4


@mutant("DATA-5")
class EmptyPayloadsAreLost(MemoryData):
    """A writer to which nothing was written stores nothing."""

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        class Writer(_Wraps):
            def close(self) -> None:
                self.abort() if not self.closed and self.inner.size == 0 else super().close()

        return Writer(super().get_data_writer(message_id, if_absent=if_absent))


@mutant("DATA-6")
class AShorterOneKeepsTheTail(MemoryData):
    """A payload that is replaced by a shorter one keeps its end."""

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        old, _ = self._shared.payloads.get(message_id, (b"", None))
        size = super().store_data(message_id, data, if_absent=if_absent)
        content, _ = self._shared.payloads[message_id]
        put(self, message_id, content + old[len(content) :])
        return size


@mutant("DATA-7")
class IfAbsentReplaces(MemoryData):
    """`if_absent` isn't looked at: a duplicate enqueue overwrites the first one's body."""

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        return super().get_data_writer(message_id)


@mutant("DATA-7")
class IfAbsentLooksThenWrites(MemoryData):
    """`if_absent` looks first, and writes a moment later."""

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        if if_absent and message_id in self._shared.payloads:
            raise DataExistsError(message_id)

        class Writer(_Wraps):
            def close(self) -> None:
                pause()
                super().close()

        return Writer(super().get_data_writer(message_id))


@mutant("DATA-7")
class ARefusalDeletes(MemoryData):
    """A failed enqueue cleans up what it didn't create: the first one's body."""

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        try:
            return super().store_data(message_id, data, if_absent=if_absent)
        except DataExistsError:
            self.delete_data(message_id)
            raise


@mutant("DATA-8")
class VisibleWhileItIsWritten(MemoryData):
    """What is written is there at once, before `close()`."""

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        backend = self

        class Writer(_Wraps):
            written = b""

            def write(self, data: ReadableBuffer, /) -> int:
                self.written += bytes(data)
                put(backend, message_id, self.written)
                return super().write(data)

        return Writer(super().get_data_writer(message_id, if_absent=if_absent))


@mutant("DATA-9")
class AbortCommits(MemoryData):
    """`abort()` closes, and what was written becomes visible."""

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        class Writer(_Wraps):
            def abort(self) -> None:
                self.close()

        return Writer(super().get_data_writer(message_id, if_absent=if_absent))


@mutant("DATA-9")
class ADroppedWriterCommits(MemoryData):
    """A writer that nobody closed is closed by the garbage collector."""

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        class Writer(_Wraps):
            def __del__(self) -> None:
                with suppress(StorageError):
                    self.close()

        return Writer(super().get_data_writer(message_id, if_absent=if_absent))


@mutant("DATA-10")
class HalfASourceIsStored(MemoryData):
    """When the source fails, what was read of it is the payload."""

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        writer = self.get_data_writer(message_id, if_absent=if_absent)
        try:
            copy_payload(data, writer)
        finally:
            writer.close()
        return writer.size


@mutant("DATA-11")
class ReadersReadOn(MemoryData):
    """A reader asks for each piece by the id, whatever is stored there by then."""

    def get_data_reader(self, message_id: str) -> BinaryIO:
        super().get_data_reader(message_id).close()
        shared = self._shared

        class Raw(io.RawIOBase):
            position = 0

            def readable(self) -> bool:
                return True

            def readinto(self, buffer: ReadableBuffer, /) -> int:
                content, _ = shared.payloads.get(message_id, (b"", None))
                view = memoryview(buffer).cast("B")
                piece = content[self.position : self.position + min(len(view), 4096)]
                view[: len(piece)] = piece
                self.position += len(piece)
                return len(piece)

        return cast("BinaryIO", io.BufferedReader(Raw(), 4096))


@mutant("DATA-12")
class NotFoundAtTheFirstRead(MemoryData):
    """A reader of what isn't there opens, and is empty."""

    def get_data_reader(self, message_id: str) -> BinaryIO:
        try:
            return super().get_data_reader(message_id)
        except DataNotFoundError:
            return io.BufferedReader(io.BytesIO())


@mutant("DATA-13")
class AReaderHasReadAlone(MemoryData):
    """A reader can read it all, and no line, and isn't closed by `with`."""

    def get_data_reader(self, message_id: str) -> BinaryIO:
        content = super().get_data_reader(message_id).read()

        class Reader:
            closed = False

            def read(self, size: int = -1) -> bytes:
                nonlocal content
                piece = content if size < 0 else content[:size]
                content = content[len(piece) :]
                return piece

            def close(self) -> None:
                pass

            def __enter__(self) -> object:
                return self

            def __exit__(self, *_: object) -> None:
                pass

        return cast("BinaryIO", Reader())


@mutant("DATA-14")
class DeletingTwiceFails(MemoryData):
    """Deleting what isn't there is an error."""

    def delete_data(self, message_id: str) -> None:
        self.get_data_reader(message_id).close()
        super().delete_data(message_id)


@mutant("DATA-15")
class ABatchEndsAtAnError(MemoryData):
    """The first payload that can't be stored raises, and the rest isn't tried."""

    def store_many(self, items: Iterable[tuple[str, Payload]], *, if_absent: bool = False) -> list[int | StorageError]:
        return [self.store_data(message_id, data, if_absent=if_absent) for message_id, data in items]


@mutant("DATA-16")
class AllAreSmall(MemoryData):
    """`fetch_many` returns payloads of any size, cut to `max_bytes`."""

    def fetch_many(self, message_ids: Sequence[str], *, max_bytes: int) -> Mapping[str, bytes]:
        return {each: found[:max_bytes] for each, found in super().fetch_many(message_ids, max_bytes=10**12).items()}


@mutant("DATA-17")
class TheFirstPageOnly(MemoryData):
    """`iter_data` ends after ten payloads."""

    def iter_data(self) -> Iterator[DataInfo]:
        for number, info in enumerate(super().iter_data()):
            if number == 10:
                return
            yield info


@mutant("DATA-18")
class IteratesTheLiveDict(MemoryData):
    """`iter_data` fails when something is stored or deleted meanwhile."""

    def iter_data(self) -> Iterator[DataInfo]:
        with self._payloads() as payloads:
            live = payloads
        for message_id, (content, modified) in live.items():
            yield DataInfo(message_id, len(content), modified)


@mutant("DATA-19")
class AllInMemory(FsDataBackend):
    """A payload is joined in memory before it's stored."""

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        whole = io.BytesIO()
        copy_payload(data, whole)
        return super().store_data(message_id, whole.getvalue(), if_absent=if_absent)


@mutant("DATA-20")
class ReadersGetAMix(MemoryData):
    """A payload is replaced piece by piece."""

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        backend = self
        old, _ = self._shared.payloads.get(message_id, (b"", None))

        class Piecemeal(io.BytesIO):
            def write(self, piece: ReadableBuffer, /) -> int:
                written = super().write(piece)
                if old and not if_absent:
                    put(backend, message_id, self.getvalue() + old[self.tell() :])
                return written

            def writelines(self, pieces: Iterable[ReadableBuffer], /) -> None:
                for piece in pieces:  # `BytesIO` itself wouldn't call `write`
                    self.write(piece)

        whole = Piecemeal()
        copy_payload(data, whole)
        return super().store_data(message_id, whole.getvalue(), if_absent=if_absent)


@mutant("DATA-22")
class SweepsTheLiving(MemoryData):
    """`sweep` takes complete payloads with it."""

    def sweep(self, before: datetime, *, dry_run: bool = False) -> Iterator[DataInfo]:
        for info in list(self.iter_data()):
            if info.modified < before:
                if not dry_run:
                    self.delete_data(info.message_id)
                yield info


@mutant("DATA-23")
class ReadsWhenClosed(MemoryData):
    """A closed backend still iterates."""

    def iter_data(self) -> Iterator[DataInfo]:
        for message_id, (content, modified) in list(self._shared.payloads.items()):
            yield DataInfo(message_id, len(content), modified)


@mutant("DATA-24")
class ThreadsShareAPayload(MemoryData):
    """What a thread is about to store lies in the instance, where another puts its own."""

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        whole = io.BytesIO()
        copy_payload(data, whole)
        self._content = whole.getvalue()
        gap()
        return super().store_data(message_id, self._content, if_absent=if_absent)


@mutant("DATA-27")
class StoresAfterTheDeadline(MemoryData):
    """A deletion doesn't look at the deadline."""

    def delete_data(self, message_id: str) -> None:
        validate_message_id(message_id)
        if self._closed:
            super().delete_data(message_id)
        self._shared.payloads.pop(message_id, None)


class _Writes(FsDataBackend):
    """Stores a payload in a way of its own."""

    def path(self, message_id: str) -> Path:
        """Return where a payload lies."""
        folder = Path(self._store.base) / (message_id[:2] if len(message_id) > 1 else "misc")
        folder.mkdir(exist_ok=True)
        return folder / f"{message_id}.data"

    def write(self, path: Path, content: Iterable[bytes]) -> None:
        raise NotImplementedError

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        validate_message_id(message_id)
        if if_absent and self.path(message_id).exists():
            raise DataExistsError(message_id)
        whole = io.BytesIO()
        copy_payload(data, whole)
        content = whole.getvalue()
        self.write(self.path(message_id), [content[at : at + 1024] for at in range(0, len(content), 1024)])
        return len(content)

    def store_many(self, items: Iterable[tuple[str, Payload]], *, if_absent: bool = False) -> list[int | StorageError]:
        return DataBackend.store_many(self, items, if_absent=if_absent)


@mutant("DATA-29")
class WritesInPlace(_Writes):
    """A payload is written under its own name, and torn when its writer is killed."""

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        validate_message_id(message_id)
        if if_absent and self.path(message_id).exists():
            raise DataExistsError(message_id)
        with self.path(message_id).open("wb") as file:
            copy_payload(data, file)
            return file.tell()


@mutant("DATA-38")
class NothingIsSynced(_Writes):
    """A payload gets its name in one step, and nothing is synced."""

    def write(self, path: Path, content: Iterable[bytes]) -> None:
        beside = path.with_name(f".{threading.get_ident()}.{os.getpid()}")
        beside.write_bytes(b"".join(content))
        beside.replace(path)
