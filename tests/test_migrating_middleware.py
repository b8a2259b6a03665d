"""Messages are moved between stores whose payloads and headers are encoded, the same way or another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from spools import Zlib

from retryspool import BackendError, MessageMetadata, Spool, State
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.middleware import Middleware
from retryspool.spool import ENCODING_HEADER, SEALED_HEADER
from retryspool.transfer import Migration
from retryspool_encryption import Aes256Gcm, Key

BODY = b"a payload that can be compressed " * 1000
FIRST, SECOND = Key("first", b"1" * 32), Key("second", b"2" * 32)


def opened(*middleware: Middleware) -> Spool:
    return Spool(MemoryMeta(), MemoryData(), middleware=middleware)


def stored(spool: Spool) -> bytes:
    with spool.data.get_data_reader("a") as reader:
        return reader.read()


PAIRS: dict[str, tuple[Sequence[Middleware], Sequence[Middleware], bool]] = {
    "compressed by both": ([Zlib()], [Zlib()], True),
    "compressed on the way": ([], [Zlib()], False),
    "decompressed on the way": ([Zlib()], [], False),
    "encrypted by both": ([Aes256Gcm(keys=[FIRST], headers=True)], [Aes256Gcm(keys=[FIRST], headers=True)], True),
    "encrypted by both, headers by one": ([Aes256Gcm(keys=[FIRST])], [Aes256Gcm(keys=[FIRST], headers=True)], False),
    "encrypted anew": ([Aes256Gcm(keys=[FIRST], headers=True)], [Aes256Gcm(keys=[SECOND], headers=True)], False),
    "encrypted by both, with a newer key at the target": (
        [Aes256Gcm(keys=[FIRST], headers=True)],
        [Aes256Gcm(keys=[SECOND, FIRST], headers=True)],
        True,
    ),
    "encrypted on the way": ([Zlib()], [Zlib(), Aes256Gcm(keys=[FIRST], headers=True)], False),
    "decrypted on the way": ([Aes256Gcm(keys=[FIRST], headers=True)], [], False),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_stored_is_copied_as_it_lies_only_if_the_target_would_encode_it_so(name: str) -> None:
    here, there, as_it_lies = PAIRS[name]
    with opened(*here) as source, opened(*there) as target:
        source.enqueue(MessageMetadata("a", state=State.HOLD, headers={"to": "you"}), BODY, is_new=True)
        before = stored(source)

        moved = Migration(source, target).run()

        assert (1, {}) == (moved.messages, dict(moved.failed))
        assert as_it_lies == (before == stored(target))
        record = target.get("a")
        assert ",".join(stage.name for stage in there) == record.headers.get(ENCODING_HEADER, "")
        assert any(stage.seals_headers for stage in there) == (SEALED_HEADER in record.headers)
        assert (State.HOLD, "you", len(BODY)) == (record.state, target.opened(record).headers["to"], record.size)
        with target.open_payload(record) as payload:
            assert BODY == payload.read()


def test_a_target_that_has_the_new_key_alone_gets_all_encrypted_anew(tmp_path: Path) -> None:
    with (
        Spool.open(tmp_path / "old", middleware=[Aes256Gcm(keys=[FIRST], headers=True)]) as source,
        Spool.open(tmp_path / "new", middleware=[Aes256Gcm(keys=[SECOND], headers=True)]) as target,
    ):
        for state in (State.INCOMING, State.DEFERRED, State.HOLD, State.BOUNCE, State.ARCHIVED):
            source.enqueue(MessageMetadata(state.label, state=state, headers={"to": state.label}), BODY, is_new=True)
        source.enqueue(MessageMetadata("long", state=State.HOLD, headers={"to": "long"}), BODY * 100, is_new=True)

        moved = Migration(source, target).run()

        assert (6, {}) == (moved.messages, dict(moved.failed))
        assert [] == list(source.data.iter_data())
    with Spool.open(tmp_path / "new", middleware=[Aes256Gcm(keys=[SECOND])]) as target:
        for record in (record for state in State for record in target.meta.iter_messages(state)):
            assert record.id == target.opened(record).headers["to"]
            with target.open_payload(record) as payload:
                assert BODY * (100 if record.id == "long" else 1) == payload.read()
    with Spool.open(tmp_path / "new", middleware=[Aes256Gcm(keys=[FIRST])]) as outsider:
        for record in (record for state in State for record in outsider.meta.iter_messages(state)):
            with pytest.raises(BackendError, match="'second', which isn't there"):
                outsider.opened(record)
            with pytest.raises(BackendError, match="'second', which isn't there"):
                outsider.open_payload(record)


def test_a_damaged_payload_that_would_be_copied_as_it_lies_is_not_moved() -> None:
    for stage in (Zlib(), Aes256Gcm(keys=[FIRST])):
        with opened(stage) as source, opened(stage) as target:
            source.enqueue(MessageMetadata("a"), BODY, is_new=True)
            source.data.store_data("a", stored(source)[:-20])

            moved = Migration(source, target).run()

            assert (0, 1) == (moved.messages, moved.failed.total())
            assert [] == list(target.data.iter_data())
            assert State.INCOMING is source.get("a").state


def test_without_the_key_nothing_is_moved(tmp_path: Path) -> None:
    with Spool.open(tmp_path, middleware=[Aes256Gcm(keys=[FIRST], headers=True)]) as source:
        source.enqueue(MessageMetadata("a"), BODY, is_new=True)
    with Spool.open(tmp_path) as source, opened() as target:
        moved = Migration(source, target).run()

        assert (0, 1) == (moved.messages, moved.failed.total())
        assert State.INCOMING is source.get("a").state
