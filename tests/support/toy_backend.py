"""The backends of `ToyServer`: each call one request, a lost reply asked for again, within the deadline."""

from __future__ import annotations

import io
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO, ClassVar, Self

from toy_server import receive_frame, send_frame

from retryspool.data import DataBackend, DataCapabilities, DataFactory, DataInfo, DataWriter
from retryspool.deadline import check_deadline, remaining
from retryspool.errors import BackendClosedError, BackendUnavailableError, DeadlineExceededError, Outcome
from retryspool.ids import validate_message_id
from retryspool.memory import _Writer
from retryspool.meta import (
    ListOptions,
    ListResult,
    MetaBackend,
    MetaCapabilities,
    MetaFactory,
    Write,
    WriteResult,
    check_claim,
    check_writes,
)
from retryspool.model import MessageMetadata, State
from retryspool.records import validate_record

TIMEOUT_S = 10.0
PART_BYTES = 64 * 1024
READS = frozenset({"get_meta", "list_messages", "page_meta", "page_data", "open_payload", "part", "changes", "wait"})


class ToyClient:
    """Connections to a server: at most `size` at once, made as they are needed."""

    tries = 3

    def __init__(self, address: tuple[str, int], namespace: str, size: int = 8) -> None:
        self._address = address
        self._namespace = namespace
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()
        self._room = threading.Semaphore(size)
        self._closed = False

    def call(self, part: str, method: str, *args: object, **options: object) -> Any:
        self.check()
        request = (uuid.uuid4().hex, self._namespace, part, method, args, options)
        until = time.monotonic() + (TIMEOUT_S if (left := remaining()) is None else left)
        if not self._room.acquire(timeout=max(0, until - time.monotonic())):
            raise DeadlineExceededError("no connection is free; nothing was changed")
        try:
            reply = self._ask(request, until)
        finally:
            self._room.release()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def check(self) -> None:
        if self._closed:
            raise BackendClosedError
        check_deadline()

    def _ask(self, request: tuple[Any, ...], until: float) -> object:
        """Ask until there's an answer: the server carries out a request of one number only once."""
        outcome: Outcome = "none"
        tried = 0
        while True:
            connection, was_idle = None, True
            try:
                connection, was_idle = self._connection(until)
                if request[3] not in READS:
                    outcome = self.outcome_when_sent
                return self._exchange(connection, request, until)
            except (OSError, EOFError) as error:
                if connection is not None:
                    connection.close()
                tried += not was_idle or connection is None  # any number of idle ones may have died
                if time.monotonic() >= until:
                    raise DeadlineExceededError("the server hasn't answered; the outcome is unknown") from error
                if tried >= self.tries:
                    raise BackendUnavailableError(f"the server can't be reached: {error}", outcome=outcome) from error

    outcome_when_sent: Outcome = "unknown"

    def _connection(self, until: float) -> tuple[socket.socket, bool]:
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        connection = socket.create_connection(self._address, max(0.001, until - time.monotonic()))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, False

    def _exchange(self, connection: socket.socket, request: tuple[Any, ...], until: float) -> object:
        def receive(size: int) -> bytes:
            connection.settimeout(max(0.001, until - time.monotonic()))
            return connection.recv(size)

        connection.settimeout(max(0.001, until - time.monotonic()))
        send_frame(connection, request)
        reply = receive_frame(receive)
        with self._lock:
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)
        return reply

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()


class ToyMeta(MetaBackend):
    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(processes=False, durable=False, server_clock=False)

    def __init__(self, client: ToyClient) -> None:
        self._client = client
        self._seen: int | None = None

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        validate_record(message_id, metadata)
        return self._client.call("meta", "store_meta", message_id, metadata)

    def get_meta(self, message_id: str) -> MessageMetadata:
        validate_message_id(message_id)
        return self._client.call("meta", "get_meta", message_id)

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        validate_record(message_id, metadata)
        return self._client.call("meta", "update_meta", message_id, metadata, if_version=if_version)

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        validate_message_id(message_id)
        self._client.call("meta", "delete_meta", message_id, if_version=if_version)

    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 -- frozen
        return self._client.call("meta", "list_messages", state, options)

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        after = ""
        while page := self._client.call("", "page_meta", state, after, batch_size):
            yield from page
            after = page[-1].id

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        validate_message_id(message_id)
        return self._client.call("meta", "move_to_state", message_id, from_state, to_state)

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        check_claim(sources, limit=limit, lease=lease, owner=owner)
        options = {"limit": limit, "lease": lease, "owner": owner, "oldest_first": oldest_first}
        options["exclude_routes"] = tuple(exclude_routes)
        return self._client.call("meta", "claim", tuple(sources), **options)

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[Any]:
        return self._client.call("meta", "renew", tuple(claims), lease=lease)

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        check_writes(writes)
        return self._client.call("meta", "apply", tuple(writes))

    def wait_for_change(self, timeout: float) -> bool:
        left = remaining()
        if self._seen is None:
            self._seen = self._client.call("", "changes")
        seen = self._seen
        self._seen = self._client.call("", "wait", seen, min(timeout, TIMEOUT_S if left is None else left * 0.9))
        return seen != self._seen

    def close(self) -> None:
        self._client.close()


class ToyData(DataBackend):
    capabilities: ClassVar[DataCapabilities] = DataCapabilities(processes=False, durable=False)

    def __init__(self, client: ToyClient) -> None:
        self._client = client

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        validate_message_id(message_id)
        self._client.check()
        return _Writer(lambda content: self._client.call("", "put", message_id, content, if_absent=if_absent))

    def get_data_reader(self, message_id: str) -> BinaryIO:
        validate_message_id(message_id)
        token = uuid.uuid4().hex
        size = self._client.call("", "open_payload", token, message_id)
        return io.BufferedReader(_Parts(self._client, token, size), PART_BYTES)

    def delete_data(self, message_id: str) -> None:
        validate_message_id(message_id)
        self._client.call("data", "delete_data", message_id)

    def iter_data(self) -> Iterator[DataInfo]:
        after = ""
        while page := self._client.call("", "page_data", after, 10):
            yield from page
            after = page[-1].message_id

    def close(self) -> None:
        self._client.close()


class _Parts(io.RawIOBase):
    def __init__(self, client: ToyClient, token: str, size: int) -> None:
        self._client, self._token, self._size = client, token, size
        self._offset = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._offset == self._size:
            return 0
        part = self._client.call("", "part", self._token, self._offset, len(buffer))
        buffer[: len(part)] = part
        self._offset += len(part)
        return len(part)


@dataclass(frozen=True, slots=True)
class _Served:
    """What both factories are: of a server's address and a namespace."""

    name: ClassVar[str] = "toy"
    client: ClassVar[type[ToyClient]] = ToyClient

    address: tuple[str, int]
    namespace: str = ""

    def connected(self) -> ToyClient:
        client = self.client(self.address, self.namespace)
        client.call("", "changes")
        return client

    def in_namespace(self, namespace: str) -> Self:
        return type(self)(self.address, namespace)

    @classmethod
    def from_url(cls, url: str) -> Self:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ToyMetaFactory(_Served, MetaFactory):
    backend: ClassVar[type[ToyMeta]] = ToyMeta

    def create(self) -> ToyMeta:
        return self.backend(self.connected())


@dataclass(frozen=True, slots=True)
class ToyDataFactory(_Served, DataFactory):
    backend: ClassVar[type[ToyData]] = ToyData

    def create(self) -> ToyData:
        return self.backend(self.connected())
