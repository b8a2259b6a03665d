"""Spools whose payloads, and headers, go through the middleware that there is: compression and encryption."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from retryspool import (
    BackendError,
    CorruptDataError,
    Filter,
    InvalidOptionError,
    InvalidUrlError,
    Message,
    MessageMetadata,
    Outgoing,
    Queue,
    Spool,
    State,
    StorageError,
    UnknownPluginError,
)
from retryspool.data import Payload
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.middleware import BlockWriter, Middleware
from retryspool.model import NEVER
from retryspool.plugins import registry
from retryspool.queue import BOUNCE_ERROR_HEADER, changes
from retryspool.spool import ENCODING_HEADER, SEALED_HEADER
from retryspool_compression import Gzip, Lz4, Zlib, Zstd
from retryspool_encryption import Aes256Gcm, ChaCha20Poly1305, Key, new_key

KEY = new_key("k1")
TEXT = b"again and again " * 1000
NOISE = random.Random(1).randbytes(50_000)
HEADERS = {"to": "ada@example.com", "grüße": "☂"}
STACKS: dict[str, Sequence[Middleware | str]] = {
    "zstd": ["zstd"],
    "by URL": ["zstd:?level=1"],
    "four of them": [Zstd(), Gzip(), Zlib(), Lz4()],
    "encrypted": [Aes256Gcm(keys=[KEY])],
    "compressed, then encrypted": ["zstd", Aes256Gcm(keys=[KEY], headers=True)],
    "encrypted, then compressed": [ChaCha20Poly1305(keys=[KEY], headers=True), "lz4"],
    "encrypted twice": [Aes256Gcm(keys=[KEY]), ChaCha20Poly1305(keys=[KEY], headers=True)],
}
BY_STACK = pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)


class Counting(MemoryData):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def store_many(self, items: Iterable[tuple[str, Payload]], *, if_absent: bool = False) -> list[int | StorageError]:
        batch = list(items)
        self.batches.append(len(batch))
        return super().store_many(batch, if_absent=if_absent)


def queue_with(*middleware: Middleware | str, like: Queue | None = None) -> Queue:
    """Return a queue in memory, or on the stores of another."""
    meta, data = (like.spool.meta, like.spool.data) if like else (MemoryMeta(), Counting())
    return Queue(Spool(meta, data, middleware=middleware))


def read(queue: Queue, message_id: str) -> bytes:
    with queue.open_payload(message_id) as payload:
        return payload.read()


# -- in and out --------------------------------------------------------------------------------------------------------


@BY_STACK
@pytest.mark.parametrize("payload", [b"", b"x", TEXT, NOISE], ids=["empty", "one byte", "text", "noise"])
def test_what_goes_in_comes_out_by_every_way_in(stack: Sequence[Middleware | str], payload: bytes) -> None:
    queue = queue_with(*stack)
    parts = [payload[:7], payload[7:]]

    queue.enqueue(payload, message_id="bytes", headers=HEADERS)
    queue.enqueue(io.BytesIO(payload), message_id="file", headers=HEADERS)
    queue.enqueue(iter(parts), message_id="parts", headers=HEADERS)
    with queue.begin_enqueue(message_id="written", headers=HEADERS) as message:
        for part in parts:
            message.write(part)
    many: list[Payload] = [payload, [payload], io.BytesIO(payload), iter(parts)]
    results = queue.enqueue_many([Outgoing(payload=each, headers=HEADERS) for each in many])

    ids = ["bytes", "file", "parts", "written", *(each.id for each in results if isinstance(each, MessageMetadata))]
    assert 8 == len(ids)
    for message_id in ids:
        record = queue.get(message_id)
        assert (payload, len(payload)) == (read(queue, message_id), record.size)
        assert HEADERS.items() <= dict(record.headers).items()
    assert all(HEADERS.items() <= dict(each.headers).items() for each in results if isinstance(each, MessageMetadata))


@BY_STACK
def test_a_payload_can_be_read_again_from_its_start(stack: Sequence[Middleware | str]) -> None:
    queue = queue_with(*stack)
    queue.enqueue(NOISE, message_id="a")

    with queue.open_payload("a") as payload:
        assert payload.seekable()
        assert NOISE[:1000] == payload.read(1000)
        assert 0 == payload.seek(0)
        assert NOISE == payload.read()


def test_a_batch_is_stored_as_a_batch() -> None:
    queue = queue_with("zstd", Aes256Gcm(keys=[KEY], headers=True))
    queue.enqueue_many([Outgoing(payload=TEXT) for _ in range(50)])

    assert isinstance(queue.spool.data, Counting)
    assert [50] == queue.spool.data.batches


def test_a_large_payload_of_a_batch_is_encoded_as_it_is_read() -> None:
    """A source of a hundred mebibytes, of which hardly any is ever held: what is stored is small."""
    asked: list[int] = []

    def source() -> Iterator[bytes]:
        for number in range(100):
            asked.append(number)
            yield bytes(1024 * 1024)

    class Watching(Counting):
        def store_many(
            self, items: Iterable[tuple[str, Payload]], *, if_absent: bool = False
        ) -> list[int | StorageError]:
            batch = list(items)
            assert not asked, "the payload is read before it is stored"
            return super().store_many(batch, if_absent=if_absent)

    queue = Queue(Spool(MemoryMeta(), Watching(), middleware=["zstd"]))
    (stored,) = queue.enqueue_many([Outgoing(payload=source())])

    assert isinstance(stored, MessageMetadata)
    assert (100, 100 * 1024 * 1024) == (len(asked), stored.size)
    (info,) = queue.spool.data.iter_data()
    assert info.size < 20_000


def test_a_source_that_fails_in_a_batch_stores_no_message() -> None:
    queue = queue_with("zstd", Aes256Gcm(keys=[KEY]))

    def failing() -> Iterator[bytes]:
        yield TEXT
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        queue.enqueue_many([Outgoing(payload=failing())])

    assert [] == list(queue.spool.data.iter_data())
    assert 0 == sum(queue.counts().values())


class Noting(Middleware):
    """Notes whose writers are aborted."""

    def __init__(self, name: str, aborted: list[str]) -> None:
        self.name = name  # type: ignore[misc]
        self._aborted = aborted

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        del message_id
        return NotingWriter(self.name, self._aborted, sink)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        del message_id
        return source


class NotingWriter(BlockWriter):
    def __init__(self, name: str, aborted: list[str], sink: BinaryIO) -> None:
        super().__init__(sink, 100)
        self._name = name
        self._aborted = aborted

    def encode_block(self, block: bytes | memoryview, *, is_last: bool) -> list[bytes]:
        del is_last
        return [bytes(block)]

    def abort(self) -> None:
        if not self.closed:
            self._aborted.append(self._name)
        super().abort()


def write(queue: Queue, parts: Iterable[bytes]) -> None:
    with queue.begin_enqueue() as message:
        for part in parts:
            message.write(part)


@pytest.mark.parametrize(
    "way",
    [
        lambda queue, parts: queue.enqueue(parts),
        lambda queue, parts: queue.enqueue_many([Outgoing(payload=parts)]),
        write,
    ],
    ids=["one", "many", "written"],
)
def test_what_is_not_stored_is_aborted_at_every_stage(way: Callable[[Queue, Iterable[bytes]], object]) -> None:
    aborted: list[str] = []
    queue = queue_with(Noting("first", aborted), Noting("second", aborted))

    def failing() -> Iterator[bytes]:
        yield TEXT
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more") as refused:
        way(queue, failing())

    assert ["first", "second"] == aborted, "while the error, and so its frames, are there"
    assert [] == list(queue.spool.data.iter_data())
    del refused


def test_files_show_nothing_of_what_is_encrypted(tmp_path: Path) -> None:
    with Queue.open(tmp_path, middleware=[Aes256Gcm(keys=[KEY], headers=True)]) as queue:
        queue.enqueue(b"the secret payload", headers={"to": "the secret header"}, message_id="a")
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("**/*") if path.is_file())

    assert b"aes-256-gcm" in stored
    assert b"secret" not in stored
    with Queue.open(tmp_path) as queue:
        assert "" == queue.get("a").checksum, "by a checksum a guess could be tried"


# -- what is configured, and what is there -----------------------------------------------------------------------------


def test_messages_are_read_by_what_they_went_through_whatever_is_configured_by_then() -> None:
    aes, chacha = Aes256Gcm(keys=[KEY], headers=True), ChaCha20Poly1305(keys=[KEY])
    stacks: list[list[Middleware | str]] = [
        [],
        ["zstd"],
        ["zstd:?level=19", aes],
        [aes, "zstd"],
        ["gzip", "lz4"],
        [chacha],
        [replace(aes, headers=False)],
    ]
    first = queue_with()
    for number, stack in enumerate(stacks):
        queue_with(*stack, like=first).enqueue(TEXT, message_id=f"m{number}", headers=HEADERS)

    for stack in (["zlib", aes], [chacha, "lz4", "zstd"], [Aes256Gcm(keys=[new_key(), KEY], decrypt_only=True)]):
        later = queue_with(*stack, like=first)
        assert [TEXT] * len(stacks) == [read(later, f"m{number}") for number in range(len(stacks))]
        assert all(HEADERS.items() <= dict(record.headers).items() for record in later.iter(State.INCOMING))
    assert TEXT == read(queue_with(like=first), "m1") == read(queue_with(like=first), "m4"), "no secret is needed"


def test_who_only_decrypts_stores_plain() -> None:
    queue = queue_with("zstd", Aes256Gcm(keys=[KEY], headers=True, decrypt_only=True))

    assert "zstd" == queue.enqueue(TEXT, message_id="a", headers=HEADERS).headers[ENCODING_HEADER]
    assert SEALED_HEADER not in queue.spool.get("a").headers


def test_without_the_key_the_error_says_what_to_open_with() -> None:
    first = queue_with("zstd", Aes256Gcm(keys=[KEY], headers=True))
    first.enqueue(TEXT, message_id="a", headers=HEADERS)

    for other in (queue_with(like=first), queue_with("zstd", like=first)):
        with pytest.raises(BackendError, match=r"'aes-256-gcm'; its key is needed: open the spool with middleware=\["):
            other.open_payload("a")
    with pytest.raises(BackendError, match="is encrypted with key 'k1', which isn't there; there are: k2"):
        queue_with(Aes256Gcm(keys=[new_key("k2")]), like=first).open_payload("a")


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    first = queue_with("zstd")
    first.enqueue(TEXT, message_id="a")
    monkeypatch.setenv("RETRYSPOOL_PLUGINS", "fs-data")
    monkeypatch.delitem(registry.__dict__, "_installed", raising=False)
    try:
        with pytest.raises(BackendError, match=r"encoded with 'zstd'.*pip install retryspool-compression"):
            queue_with(like=first).open_payload("a")
    finally:
        monkeypatch.undo()
        registry.__dict__.pop("_installed", None)


def test_middleware_stands_in_the_url_of_the_payloads(tmp_path: Path) -> None:
    meta, data = f"fs:{tmp_path}/meta", f"fs:{tmp_path}/data?middleware=zstd:%3Flevel%3D1,gzip"
    with Queue.open(meta=meta, data=data) as queue:
        assert "zstd,gzip" == queue.enqueue(TEXT).headers[ENCODING_HEADER]
    with pytest.raises(InvalidOptionError, match="as an argument or in the data backend's URL, not in both"):
        Queue.open(meta=meta, data=data, middleware=["zstd"])


def test_one_name_alone_is_taken_for_a_list_of_one(tmp_path: Path) -> None:
    with Queue.open(tmp_path, middleware="zstd") as queue:
        assert "zstd" == queue.enqueue(TEXT).headers[ENCODING_HEADER]


@pytest.mark.parametrize(
    ("middleware", "error", "text"),
    [
        (["snappy"], UnknownPluginError, "there is no middleware 'snappy'; installed: aes-256-gcm, .*zstd"),
        (["zstd:?level=99"], InvalidUrlError, "those of zstd are -7 to 22"),
        (["zstd:?lvl=9"], InvalidUrlError, "there is no setting 'lvl'; there are: level"),
        (["zstd", "zstd:?level=9"], InvalidOptionError, "the names of middleware must differ: zstd, zstd"),
        (["aes-256-gcm"], InvalidUrlError, "keys are given by none of"),
        (
            [Aes256Gcm(keys=[KEY], headers=True), ChaCha20Poly1305(keys=[KEY], headers=True)],
            InvalidOptionError,
            "headers are sealed once, not by each of aes-256-gcm, chacha20-poly1305",
        ),
    ],
)
def test_a_stack_that_can_not_be_is_refused(
    middleware: Sequence[Middleware | str], error: type[Exception], text: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        Queue.open(tmp_path / "spool", middleware=middleware)
    if error is not InvalidOptionError:
        assert not (tmp_path / "spool").exists()


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [["zstd"], [Aes256Gcm(keys=[KEY])], ["zstd", Aes256Gcm(keys=[KEY])]])
def test_reading_stops_as_soon_as_more_comes_out_than_the_record_says(stack: Sequence[Middleware | str]) -> None:
    queue = queue_with(*stack)
    queue.enqueue(bytes(50_000_000), message_id="bomb")
    record = queue.spool.get("bomb")
    queue.spool.meta.update_meta("bomb", replace(record, size=1000))

    with queue.open_payload("bomb") as payload, pytest.raises(CorruptDataError, match="longer than 1000 bytes"):
        payload.read()


@pytest.mark.parametrize("stack", [["zstd"], ["gzip"], [Aes256Gcm(keys=[KEY])]])
def test_a_damaged_payload_bounces_its_message_and_no_handler_takes_it_for_whole(
    stack: Sequence[Middleware | str],
) -> None:
    queue = queue_with(*stack)
    queue.enqueue(NOISE, message_id="a")
    stored = bytearray(queue.spool.data.get_data_reader("a").read())
    stored[len(stored) // 2] ^= 1
    queue.spool.data.store_data("a", bytes(stored))
    whole: list[bytes] = []
    queue.handler(lambda _, payload: whole.append(payload.read()))

    queue.run(until_idle=True)

    record = queue.get("a")
    assert ([], State.BOUNCE) == (whole, record.state)
    assert "is not what was handed in" in record.last_error


def test_a_payload_that_was_swapped_with_another_is_refused() -> None:
    queue = queue_with(Aes256Gcm(keys=[KEY]))
    for message_id, payload in (("a", b"pay ada"), ("b", b"pay bob")):
        queue.enqueue(payload, message_id=message_id)
    one, other = (queue.spool.data.get_data_reader(each).read() for each in "ab")
    queue.spool.data.store_data("a", other)
    queue.spool.data.store_data("b", one)

    for message_id in "ab":
        with queue.open_payload(message_id) as payload, pytest.raises(CorruptDataError, match="another message's"):
            payload.read(1)


def test_a_worker_without_the_key_sets_messages_aside() -> None:
    first = queue_with("zstd", Aes256Gcm(keys=[KEY], headers=True))
    first.enqueue(TEXT, message_id="sealed", headers=HEADERS)
    queue_with(Aes256Gcm(keys=[KEY]), like=first).enqueue(TEXT, message_id="encrypted", headers=HEADERS)
    first.enqueue(TEXT, message_id="no-headers")
    other = queue_with(like=first)
    seen: list[str] = []
    other.handler(lambda message, _: seen.append(message.id))

    other.run(until_idle=True)

    assert [] == seen
    records = [first.get(each) for each in ("sealed", "encrypted", "no-headers")]
    assert [(State.DEFERRED, 0)] * 3 == [(record.state, record.attempts) for record in records]
    assert all("its key is needed" in record.last_error for record in records)


def test_a_message_whose_sealed_headers_are_damaged_bounces_at_the_first_look_and_is_kept_as_it_is() -> None:
    queue = queue_with(Aes256Gcm(keys=[KEY], headers=True))
    for message_id in ("altered", "cut-off"):
        queue.enqueue(TEXT, message_id=message_id, headers=HEADERS)
    queue.enqueue(TEXT, message_id="whole", headers=HEADERS)
    for message_id, damage in (("altered", lambda text: text[:-8] + "AAAAAA=="), ("cut-off", lambda text: text[:-24])):
        record = queue.spool.get(message_id)
        headers = {**record.headers, SEALED_HEADER: damage(record.headers[SEALED_HEADER])}
        queue.spool.meta.update_meta(message_id, replace(record, headers=headers))
    stored = {each: queue.spool.get(each).headers[SEALED_HEADER] for each in ("altered", "cut-off")}
    handled, bounced = list[str](), list[str]()
    queue.handler(lambda message, _: handled.append(message.id))
    queue.bounce_handler(lambda message, _: bounced.append(message.id))

    queue.run(until_idle=True)

    assert (["whole"], []) == (handled, bounced)
    assert (2, 0) == (queue.counters.snapshot()["bounced"], queue.counters.snapshot()["set_aside"])
    for message_id, sealed in stored.items():
        record = queue.get(message_id)
        assert (State.BOUNCE, 0, NEVER) == (record.state, record.attempts, record.next_retry)
        assert record.last_error.startswith(f"CorruptDataError: the headers of message '{message_id}' are not what was")
        assert record.last_error == record.headers[BOUNCE_ERROR_HEADER]
        assert sealed == record.headers[SEALED_HEADER]
        with queue.open_payload(message_id) as payload:
            assert TEXT == payload.read()


def test_a_key_of_the_same_name_that_is_another_bounces_nothing() -> None:
    first = queue_with(Aes256Gcm(keys=[KEY], headers=True))
    first.enqueue(TEXT, message_id="m", headers=HEADERS)
    other = queue_with(Aes256Gcm(keys=[new_key(KEY.id)], headers=True), like=first)
    other.handler(lambda _message, _payload: None)

    other.run(until_idle=True)

    assert (State.DEFERRED, 0) == (first.get("m").state, first.get("m").attempts)
    assert "with another key of the id 'k1'" in first.get("m").last_error
    assert (1, 0) == (other.counters.snapshot()["set_aside"], other.counters.snapshot()["bounced"])


# -- headers -----------------------------------------------------------------------------------------------------------


def test_headers_are_sealed_in_the_store_and_plain_to_who_has_the_key() -> None:
    queue = queue_with(Aes256Gcm(keys=[KEY], headers=True))
    returned = queue.enqueue(b"x", message_id="a", headers=HEADERS, route="example.com")

    stored = queue.spool.get("a")
    assert {ENCODING_HEADER, SEALED_HEADER} == set(stored.headers)
    assert stored.headers[SEALED_HEADER].startswith("aes-256-gcm:")
    assert "example.com" == stored.route, "routes and priorities stay plain"
    for record in (returned, queue.get("a"), *queue.iter(State.INCOMING)):
        assert {**HEADERS, ENCODING_HEADER: "aes-256-gcm"} == dict(record.headers)
    assert HEADERS.items() <= dict(queue.enqueue(b"y", message_id="a", if_exists="skip").headers).items()
    assert stored == queue_with(like=queue).get("a"), "as they are stored, without the key"


def test_handlers_see_and_change_plain_headers_that_are_stored_sealed() -> None:
    queue = queue_with(Aes256Gcm(keys=[KEY], headers=True))
    queue.enqueue(b"x", message_id="a", headers=HEADERS)
    seen: list[dict[str, str]] = []

    def handle(message: Message, payload: BinaryIO) -> None:
        del payload
        seen.append(dict(message.headers))
        message.headers["tried"] = "once"
        raise OSError("not now")

    queue.add_handler(handle)

    queue.run(until_idle=True)

    assert [HEADERS] == seen
    assert {**HEADERS, "tried": "once"}.items() <= dict(queue.get("a").headers).items()
    assert {ENCODING_HEADER, SEALED_HEADER} == set(queue.spool.get("a").headers)


def test_headers_that_nobody_changes_stay_as_they_are_sealed() -> None:
    queue = queue_with(Aes256Gcm(keys=[KEY], headers=True))
    queue.enqueue(b"x", message_id="a", headers=HEADERS)
    before = queue.spool.get("a").headers

    queue.hold("a")
    queue_with(like=queue).release("a")
    queue.bounce("a", "by hand")

    assert before[SEALED_HEADER] == queue.spool.get("a").headers[SEALED_HEADER]


def test_headers_are_changed_by_who_has_the_key_and_by_nobody_else() -> None:
    queue = queue_with(Aes256Gcm(keys=[KEY], headers=True))
    queue.enqueue(b"x", message_id="a", headers=HEADERS)
    stored = queue.spool.get("a")

    for other in (queue_with(like=queue), queue_with(Aes256Gcm(keys=[new_key("k2")]), like=queue)):
        with pytest.raises(BackendError, match=r"its key is needed|which isn't there"):
            other.update_headers("a", {"to": "eve"})
    assert stored == queue.spool.get("a")

    changed = queue.update_headers("a", {"to": "bob", "grüße": None})
    assert {"to": "bob", ENCODING_HEADER: "aes-256-gcm"} == dict(changed.headers) == dict(queue.get("a").headers)
    rotated = queue_with(Aes256Gcm(keys=[new_key("k2"), KEY]), like=queue)
    rotated.update_headers("a", {"to": "carol"})
    assert "carol" == rotated.get("a").headers["to"]
    assert SEALED_HEADER in rotated.spool.get("a").headers, "what was sealed stays so"
    with pytest.raises(BackendError, match="with key 'k2'"):
        queue.spool.opened(queue.spool.get("a"))


def test_filters_look_at_plain_headers_and_changes_of_many_write_sealed_ones() -> None:
    queue = queue_with(Aes256Gcm(keys=[KEY], headers=True))
    for number in range(20):
        queue.enqueue(b"x", message_id=f"m{number}", headers={"to": f"{'ada' if number % 2 else 'bob'}{number}"})
    adas = Filter(headers={"to": "ada*"})

    assert 10 == len(list(queue.select(adas)))
    assert 0 == len(list(queue_with(like=queue).select(adas)))
    assert 10 == queue.change_all(changes.hold(), adas).changed
    assert {"ada"} == {record.headers["to"][:3] for record in queue.iter(State.HOLD)}
    tally = queue.change_all(changes.update_headers({"to": "carol"}), adas)
    assert (10, ["m"] * 10) == (tally.changed, [record.id[:1] for record in tally.sample])
    assert {"carol"} == {record.headers["to"] for record in queue.iter(State.HOLD)}
    assert {SEALED_HEADER, ENCODING_HEADER} == {
        name for each in queue.spool.meta.iter_messages(State.HOLD) for name in each.headers
    }
    failed = queue_with(like=queue).change_all(changes.update_headers({"to": "eve"}), Filter(states=(State.HOLD,)))
    assert (0, 10) == (failed.changed, failed.failed.total())
    assert {"carol"} == {record.headers["to"] for record in queue.iter(State.HOLD)}


def test_headers_of_one_message_do_not_open_for_another() -> None:
    queue = queue_with(Aes256Gcm(keys=[KEY], headers=True))
    a, b = (queue.enqueue(b"x", message_id=each, headers={"to": each}) for each in "ab")
    queue.spool.meta.update_meta("a", replace(queue.spool.get("a"), headers=queue.spool.get("b").headers))

    with pytest.raises(CorruptDataError, match=r"the headers of message 'a' are not what was handed in: .* altered"):
        queue.spool.opened(queue.spool.get("a"))
    assert SEALED_HEADER in queue.get("a").headers
    assert (a.id, "b") == ("a", b.headers["to"])


def test_plain_headers_stay_plain_until_they_are_written_anew() -> None:
    first = queue_with()
    first.enqueue(b"x", message_id="a", headers=HEADERS)
    queue = queue_with(Aes256Gcm(keys=[Key("k1", bytes(32))], headers=True), like=first)

    assert HEADERS == dict(queue.get("a").headers)
    queue.update_headers("a", {"to": "bob"})
    assert {SEALED_HEADER} == set(queue.spool.get("a").headers)
    assert "bob" == queue.get("a").headers["to"]


def test_a_users_own_word_on_sealing_does_not_count() -> None:
    queue = queue_with("zstd")
    queue.spool.enqueue(MessageMetadata("a", headers={SEALED_HEADER: "aes-256-gcm:x", "to": "y"}), b"x")

    assert {"to": "y", ENCODING_HEADER: "zstd"} == dict(queue.get("a").headers)
