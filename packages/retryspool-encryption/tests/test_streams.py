"""What is stored, chunk by chunk, against the primitives themselves; and every way to get it wrong."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from retryspool.errors import BackendError, CorruptDataError
from retryspool_encryption import Aes256Gcm, Key, middleware, new_key
from retryspool_encryption import ChaCha20Poly1305 as ChaCha
from retryspool_encryption.frame import PREFIX_BYTES

KEY = Key("k1", bytes(range(100, 132)))
BOTH = pytest.mark.parametrize("kind", [Aes256Gcm, ChaCha])
CHUNK = 256 * 1024
HEAD = PREFIX_BYTES + 2 + 16 + 16
"""Of a stream whose key's id has two letters, in bytes."""
PAYLOAD = random.Random(1).randbytes(3 * CHUNK + 1000)
FORMATS = json.loads(Path(__file__).with_name("formats").joinpath("1.json").read_text())


def encrypted(stage: Aes256Gcm | ChaCha, payload: bytes, message_id: str = "m") -> bytes:
    sink = io.BytesIO()
    with stage.encode(message_id, sink) as writer:
        writer.write(payload)
    return sink.getvalue()


def decrypted(stage: Aes256Gcm | ChaCha, stored: bytes, message_id: str = "m") -> bytes:
    with stage.decode(message_id, io.BytesIO(stored)) as reader:
        return reader.read()


def by_hand(stored: bytes, master: bytes, message_id: str, purpose: str) -> bytes:
    """Decrypt a stream by nothing but the page that describes it."""
    magic, version, algorithm, exponent, id_length = stored[:3], *stored[3:7]
    head, rest = stored[: 7 + id_length + 32], stored[7 + id_length + 32 :]
    salt, check = head[-32:-16], head[-16:]
    name = {1: "aes-256-gcm", 2: "chacha20-poly1305"}[algorithm]
    info = f"retryspool-encryption v1 {name} {purpose}".encode()
    drawn = HKDF(SHA256(), 48, salt, info).derive(master)
    aead = {1: AESGCM, 2: ChaCha20Poly1305}[algorithm](drawn[:32])
    size = (1 << exponent) + 16
    chunks = [rest[at : at + size] for at in range(0, len(rest), size)]
    plain = [
        aead.decrypt(number.to_bytes(11) + bytes([number == len(chunks) - 1]), chunk, head + message_id.encode())
        for number, chunk in enumerate(chunks)
    ]
    assert (b"RSE", 1, drawn[32:]) == (magic, version, check)
    return b"".join(plain)


# -- the format --------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(PAYLOAD)])
def test_a_stream_is_what_the_page_says(kind: type[Aes256Gcm | ChaCha], size: int) -> None:
    stored = encrypted(kind(keys=[KEY]), PAYLOAD[:size])

    assert PAYLOAD[:size] == by_hand(stored, KEY.secret, "m", "payload")
    assert HEAD + size + 16 * max(1, -(-size // CHUNK)) == len(stored)


def test_the_fixtures_are_what_the_page_says() -> None:
    master = bytes(range(32))
    for each in FORMATS["payloads"]:
        payload = base64.b64decode(each["piece"]) * each["times"]
        assert payload == by_hand(base64.b64decode(each["stored"]), master, each["message_id"], "payload")
    for each in FORMATS["headers"]:
        headers = by_hand(base64.b64decode(each["sealed"]), master, each["message_id"], "headers")
        assert each["headers"] == json.loads(headers)


@BOTH
def test_headers_of_every_released_version_open(kind: type[Aes256Gcm | ChaCha]) -> None:
    stage = kind(keys=[Key("fixture", bytes(range(32)))])

    assert len(FORMATS["headers"]) == 2
    for each in FORMATS["headers"]:
        assert each["headers"] == dict(stage.open_headers(each["message_id"], each["sealed"]))


def test_a_payload_is_no_headers_and_headers_are_no_payload() -> None:
    stage = Aes256Gcm(keys=[KEY])
    sealed = stage.seal_headers("m", {"a": "b"})
    stored = encrypted(stage, b'{"a":"b"}')

    with pytest.raises(BackendError):
        decrypted(stage, base64.b64decode(sealed))
    with pytest.raises(BackendError):
        stage.open_headers("m", base64.b64encode(stored).decode())


@BOTH
def test_each_reads_what_the_other_has_written(kind: type[Aes256Gcm | ChaCha]) -> None:
    (other,) = {Aes256Gcm, ChaCha} - {kind}

    assert PAYLOAD == decrypted(other(keys=[KEY]), encrypted(kind(keys=[KEY]), PAYLOAD))
    assert (other.name,) == kind.reads


# -- every way to get it wrong -----------------------------------------------------------------------------------------


def chunks(stored: bytes) -> tuple[bytes, list[bytes]]:
    size = CHUNK + 16
    return stored[:HEAD], [stored[at : at + size] for at in range(HEAD, len(stored), size)]


@BOTH
@pytest.mark.parametrize(
    ("order", "good", "what"),
    [
        ((0, 1, 2), 2, "is cut off at chunk 2"),
        ((0, 1), 1, "is cut off at chunk 1"),
        ((0,), 0, "is cut off at chunk 0"),
        ((), 0, "is cut off at chunk 0"),
        ((0, 2, 3), 1, "was altered"),
        ((0, 1, 3), 2, "was altered"),
        ((1, 0, 2, 3), 0, "was altered"),
        ((0, 1, 1, 2, 3), 2, "was altered"),
        ((0, 1, 2, 2, 3), 3, "was altered"),
        ((3,), 0, "was altered"),
        ((0, 1, 2, 3, 3), 3, "was altered"),
    ],
)
def test_chunks_that_are_missing_repeated_or_moved_are_refused_before_a_byte_of_them_is_read(
    kind: type[Aes256Gcm | ChaCha], order: Sequence[int], good: int, what: str
) -> None:
    stage = kind(keys=[KEY])
    head, parts = chunks(encrypted(stage, PAYLOAD))

    with stage.decode("m", io.BytesIO(head + b"".join(parts[number] for number in order))) as reader:
        assert PAYLOAD[: good * CHUNK] == reader.read(good * CHUNK)
        with pytest.raises(CorruptDataError, match=what):
            reader.read(1)


def test_what_goes_on_after_its_end_is_said_to() -> None:
    stage = Aes256Gcm(keys=[KEY])
    stored = encrypted(stage, PAYLOAD[: 2 * CHUNK])

    with pytest.raises(CorruptDataError, match="goes on after its end at chunk 1"):
        decrypted(stage, stored + b"more")


def test_an_empty_chunk_at_the_end_is_refused() -> None:
    """Another implementation might write one: then a payload would have two forms."""
    stage = Aes256Gcm(keys=[KEY])
    head, _ = chunks(encrypted(stage, b""))
    drawn = HKDF(SHA256(), 48, head[-32:-16], b"retryspool-encryption v1 aes-256-gcm payload").derive(KEY.secret)
    aead = AESGCM(drawn[:32])
    first = aead.encrypt(bytes(12), PAYLOAD[:CHUNK], head + b"m")
    last = aead.encrypt((1).to_bytes(11) + b"\1", b"", head + b"m")

    with pytest.raises(CorruptDataError, match="empty chunk"):
        decrypted(stage, head + first + last)


def test_the_same_payload_of_another_message_is_refused() -> None:
    stage = Aes256Gcm(keys=[KEY])

    with pytest.raises(CorruptDataError, match="was altered, or is another message's"):
        decrypted(stage, encrypted(stage, PAYLOAD, "m"), "n")


def test_a_format_of_the_future_says_what_to_do() -> None:
    stage = Aes256Gcm(keys=[KEY])
    stored = encrypted(stage, b"hello")

    with pytest.raises(BackendError, match=r"format version 2.*pip install --upgrade retryspool-encryption") as refused:
        decrypted(stage, stored[:3] + b"\2" + stored[4:])
    assert not isinstance(refused.value, CorruptDataError), "nothing is damaged"


def test_streams_have_salts_of_their_own() -> None:
    stage = Aes256Gcm(keys=[KEY])
    streams = [encrypted(stage, b"") for _ in range(1000)]

    assert 1000 == len({stored[HEAD - 32 : HEAD - 16] for stored in streams})
    assert 1000 == len({stored[HEAD:] for stored in streams})


# -- keys --------------------------------------------------------------------------------------------------------------


def test_the_first_key_encrypts_and_each_decrypts() -> None:
    old, new = Key("old", bytes(32)), new_key("new")
    stored = encrypted(Aes256Gcm(keys=[old]), b"of before")
    rotated = Aes256Gcm(keys=[new, old])

    assert b"of before" == decrypted(rotated, stored)
    assert b"\3new" == encrypted(rotated, b"x")[6:10]
    assert b"x" == decrypted(Aes256Gcm(keys=[new]), encrypted(rotated, b"x"))


def test_a_key_that_is_not_there_is_named_and_so_are_those_that_are() -> None:
    stored = encrypted(Aes256Gcm(keys=[Key("lost", bytes(32))]), b"x")

    with pytest.raises(BackendError) as refused:
        Aes256Gcm(keys=[new_key("a"), new_key("b")]).decode("m", io.BytesIO(stored))
    expected = "the payload of message 'm' is encrypted with key 'lost', which isn't there; there are: a, b"
    assert expected == str(refused.value)
    assert not isinstance(refused.value, CorruptDataError), "nothing is damaged"


def test_another_key_of_the_same_id_is_told_from_damage() -> None:
    stored = encrypted(Aes256Gcm(keys=[new_key("k1")]), b"x")

    with pytest.raises(BackendError, match="another key of the id 'k1'") as refused:
        Aes256Gcm(keys=[KEY]).decode("m", io.BytesIO(stored))
    assert not isinstance(refused.value, CorruptDataError)


def test_a_key_that_came_later_is_fetched_when_it_is_needed() -> None:
    keys = [KEY]
    fetched: list[int] = []

    def fetch() -> list[Key]:
        fetched.append(len(keys))
        return list(keys)

    stage = Aes256Gcm(keys=fetch)
    keys.insert(0, new_key("newer"))
    stored = encrypted(Aes256Gcm(keys=keys), b"x")

    assert [1] == fetched
    assert b"x" == decrypted(stage, stored) == decrypted(stage, stored)
    assert [1, 2] == fetched, "and only then"


def test_who_only_decrypts_writes_nothing() -> None:
    assert not Aes256Gcm(keys=[KEY]).decode_only
    assert Aes256Gcm(keys=[KEY], decrypt_only=True).decode_only


def test_the_modules_say_what_they_have() -> None:
    assert {"Aes256Gcm", "ChaCha20Poly1305"} == set(middleware.__all__)
