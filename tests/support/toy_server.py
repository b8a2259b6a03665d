"""A store over TCP, as small as one can be: the in-memory backends behind a server of frames, all of them pickles.

For the suite's own tests, which need a server that works as it should: it keeps the replies of the last requests by
their numbers, so that a client that has lost one asks again and is told what came of its request.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from retryspool.data import DataInfo
from retryspool.errors import StorageError
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.model import MessageMetadata, State

_HEAD = struct.Struct(">I")
_KEPT = 10_000


def send_frame(connection: socket.socket, content: object) -> None:
    frame = pickle.dumps(content)
    connection.sendall(_HEAD.pack(len(frame)) + frame)


def receive_frame(receive: Callable[[int], bytes]) -> Any:
    """:raises EOFError: the connection ended, be it within a frame"""
    (size,) = _HEAD.unpack(_exactly(receive, _HEAD.size))
    return pickle.loads(_exactly(receive, size))


def _exactly(receive: Callable[[int], bytes], size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = receive(min(size - len(parts), 65536))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


class ToyStore:
    """What one namespace holds, and what a request may ask of it: its methods, and those of the two backends."""

    def __init__(self) -> None:
        self.meta = MemoryMeta()
        self.data = MemoryData()
        self.open_payloads: dict[str, bytes] = {}

    def page_meta(self, state: State, after: str, limit: int) -> list[MessageMetadata]:
        records = sorted(self.meta.iter_messages(state), key=lambda record: record.id)
        return [record for record in records if record.id > after][:limit]

    def page_data(self, after: str, limit: int) -> list[DataInfo]:
        return sorted((info for info in self.data.iter_data() if info.message_id > after), key=lambda i: i.message_id)[
            :limit
        ]

    def changes(self) -> int:
        return self.meta._shared.changes

    def wait(self, seen: int, timeout: float) -> int:
        with self.meta._shared.changed:
            self.meta._shared.changed.wait_for(lambda: self.meta._shared.changes != seen, timeout)
            return self.meta._shared.changes

    def put(self, message_id: str, content: bytes, *, if_absent: bool) -> int:
        return self.data.store_data(message_id, content, if_absent=if_absent)

    def open_payload(self, token: str, message_id: str) -> int:
        with self.data.get_data_reader(message_id) as reader:
            self.open_payloads[token] = reader.read()
        return len(self.open_payloads[token])

    def part(self, token: str, offset: int, size: int) -> bytes:
        return self.open_payloads[token][offset : offset + size]


class ToyServer:
    """The server. `kill` ends it within whatever it does; what it holds is there after the next `start`."""

    def __init__(self) -> None:
        self.stores: dict[str, ToyStore] = {}
        self.address: tuple[str, int] = ("127.0.0.1", 0)
        self._replies: OrderedDict[str, object] = OrderedDict()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    def start(self) -> ToyServer:
        self._listener = socket.create_server(self.address, backlog=256)
        self.address = self._listener.getsockname()
        self._begin(self._accept, self._listener)
        return self

    def kill(self) -> None:
        assert self._listener is not None
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._open.clear()

    def _begin(self, run: Callable[[socket.socket], None], connection: socket.socket) -> None:
        self._threads.append(threading.Thread(target=run, args=(connection,)))
        self._threads[-1].start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._open.add(connection)
                self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                send_frame(connection, self._answer(receive_frame(connection.recv)))
        self._open.discard(connection)

    def _answer(self, request: tuple[Any, ...]) -> object:
        number, namespace, part, method, args, options = request
        with self._lock:
            if number in self._replies:
                return self._replies[number]
            store = self.stores.setdefault(namespace, ToyStore())
            if method != "wait":
                reply = self._call(store, part, method, args, options)
                self._replies[number] = reply
                if len(self._replies) > _KEPT:
                    self._replies.popitem(last=False)
                return reply
        return self._call(store, part, method, args, options)

    @staticmethod
    def _call(store: ToyStore, part: str, method: str, args: Any, options: Any) -> object:
        try:
            return getattr(getattr(store, part) if part else store, method)(*args, **options)
        except StorageError as error:
            return error
